"""Weights of a reward model: the decoder with its adapter merged in, and the head of the run."""

from pathlib import Path

import torch

from strop.core.errors import DataError, UnsupportedError
from strop.exporting.weights.base_weights import Base
from strop.exporting.weights.tuned import TunedWeights
from strop.runs.reward_model import HEAD, Classifier

SCORE = f"{HEAD}.weight"


class ScoredWeights(TunedWeights):
    """Weights of a classifier of transformers: without the base's head, which writes, with the run's."""

    def __init__(self, base: Base, adapter: Path, classifier: Classifier) -> None:
        """Read adapter and head; base weights are read on demand.

        Args:
            base: the weights it was trained on.
            adapter: a folder as PEFT writes it, with the head in it.
            classifier: transformers' on this decoder.

        Raises:
            UnsupportedError: the classifier calls the decoder's weights otherwise; or the adapter
                cannot be merged.
            DataError: the adapter has no head, belongs to another model, or a file of it is missing.
        """
        self._shared = [name for name in base.names if name in classifier.weights]
        if not self._shared:
            raise UnsupportedError(
                f"{classifier.name} has other names for the weights of the base, so that they cannot "
                "be merged; export it with --to adapter"
            )
        super().__init__(base, adapter)
        if SCORE not in self.replaced:
            raise DataError(
                f"the adapter in {adapter} has no {SCORE}, the head that rewards; put it back from a "
                "copy of the run, or train again"
            )

    @property
    def names(self) -> list[str]:
        """Every tensor, in the order of the base's files, the head last."""
        return [*self._shared, SCORE]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return tuple(self.replaced[name].shape) if name == SCORE else super().shape(name)

    def stored(self, name: str) -> torch.dtype:
        """Return the format in which a tensor is stored: the head as the widest of the base."""
        if name != SCORE:
            return super().stored(name)
        formats = (self.base.stored(one) for one in self._shared)
        return max(formats, key=lambda dtype: dtype.itemsize)
