"""Writes a run's adapter alone as GGUF, for llama.cpp to lay over a GGUF file of the base."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from torch import Tensor

from strop.core.errors import UnsupportedError
from strop.core.progress import Written
from strop.exporting.gguf import architectures
from strop.exporting.gguf.writer import add_fields, pad, write_header
from strop.exporting.weights.rotary import halves_to_pairs
from strop.exporting.weights.tuned import TunedWeights, Update
from strop.models.assets import ModelAssets

FILE = "adapter.gguf"


class GgufAdapter:
    """A GGUF file of the two factors of each changed weight, in float32, that is to be written."""

    def __init__(self, weights: TunedWeights, assets: ModelAssets) -> None:
        """List the tensors of the file.

        Raises:
            UnsupportedError: the adapter holds what llama.cpp cannot add while it runs.
        """
        self.weights, self.assets = weights, assets
        self.alpha = float(weights.adapter_config["lora_alpha"]) or 1.0
        self._check()
        self.tensors = dict(self._named())

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def write(self, file: Path, written: Written) -> None:
        """Write the file.

        Args:
            file: does not exist yet.
            written: called with the bytes of each tensor that is written.
        """
        arch = architectures.architecture_of(self.assets.text_config).arch.name.lower()
        writer = GGUFWriter(file, arch)
        add_fields(
            writer,
            {
                "general.type": "adapter",
                "adapter.type": "lora",
                "adapter.lora.alpha": self.alpha,
            },
        )
        for name, tensor in self.tensors.items():
            shape = tuple(tensor.shape)
            writer.add_tensor_info(
                name, shape, np.dtype(np.float32), tensor.nbytes, GGMLQuantizationType.F32
            )
        write_header(writer)
        with file.open("ab") as stream:
            pad(stream)
            for tensor in self.tensors.values():
                stream.write(tensor.contiguous().numpy().tobytes())
                pad(stream)
                written(tensor.nbytes)

    def _check(self) -> None:
        updates = self.weights.updates.items()
        if stacked := next((n for n, u in updates if not isinstance(u, Update)), None):
            raise UnsupportedError(
                f"the adapter changes the stacked experts {stacked}, which strop does not write as "
                "an adapter for llama.cpp; export --to merged"
            )
        dora = next((n for n, u in updates if getattr(u, "magnitude", None) is not None), None)
        whole = next(iter(self.weights.replaced), None)
        if dora or whole:
            what = f"magnitudes (DoRA), as of {dora}" if dora else f"a whole new {whole}"
            raise UnsupportedError(
                f"the adapter holds {what}, which llama.cpp cannot lay over a base; export --to "
                "gguf --quant f16, which merges it"
            )

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        """Yield llama.cpp's factors: it adds alpha / rank · B A, so other scales go into B."""
        config = self.assets.text_config
        known = architectures.names(config)
        for name, update in self.weights.updates.items():
            assert isinstance(update, Update)  # `_check` refuses others
            if (named := architectures.named(known, name)) is None:
                if architectures.of_images(name):
                    continue
                raise UnsupportedError(f"the tensor {name} has no place in a GGUF file")
            B = update.B * (update.scale * len(update.A) / self.alpha)
            if heads := architectures.permuted_heads(config, name):
                B = halves_to_pairs(B, len(B) // heads)
            yield f"{named}.lora_a", update.A
            yield f"{named}.lora_b", B
