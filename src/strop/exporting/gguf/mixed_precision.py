"""A GGUF file whose formats are chosen tensor by tensor within a budget of bytes."""

from pathlib import Path

from strop.core.errors import ConfigError
from strop.core.progress import Written
from strop.exporting.gguf.mixture import KINDS, mixture, plain_bytes, stored_bytes
from strop.exporting.gguf.writer import GgufFile
from strop.exporting.weights.sensitivity import Sensitivity
from strop.models.assets import ModelAssets


class DynamicGguf:
    """A GGUF file that is to be written; its formats are chosen when it is."""

    def __init__(self, sensitivity: Sensitivity, assets: ModelAssets, budget: float) -> None:
        """Compute the largest size of the file.

        Args:
            sensitivity: calibrated costs of errors in the tuned model.
            assets: what surrounds the weights.
            budget: times the bytes that all matrices take in Q4_0.

        Raises:
            ConfigError: no formats are so small.
            UnsupportedError: llama.cpp has no such model, or a tensor that it does not know.
        """
        self.sensitivity, self.assets, self.budget = sensitivity, assets, budget
        plain = GgufFile(sensitivity.weights, assets, "q4_0")
        self._shapes = {tensor.source: tensor.shape for tensor in plain.tensors}
        whole = plain_bytes(self._shapes)
        self.nbytes = plain.nbytes - whole + int(budget * whole)
        matrices = [shape for shape in self._shapes.values() if len(shape) > 1]
        least = sum(min(stored_bytes(kind, shape) for kind in KINDS) for shape in matrices)
        if budget * whole < least:
            raise ConfigError(
                f"--quant dynamic-{budget:.2f} is {budget:.2f} times the bytes of q4_0; the "
                f"narrowest formats take {least / whole:.2f} times as many, so ask for at least that"
            )

    def write(self, file: Path, written: Written) -> None:
        """Choose the formats and write the file.

        Args:
            file: does not exist yet.
            written: called with the bytes of each tensor that is written.
        """
        chosen = mixture(self.sensitivity, self._shapes, self.budget)
        GgufFile(self.sensitivity.weights, self.assets, "q8_0", chosen).write(file, written)
