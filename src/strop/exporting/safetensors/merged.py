"""Writes a run as a plain model folder: base and adapter joined, tokenizer and template complete."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from strop.core.progress import Written
from strop.exporting.weights.file_names import FileNames
from strop.exporting.weights.streaming import shards, write_shards
from strop.exporting.weights.tuned import TunedWeights
from strop.models.assets import ModelAssets


class Merged:
    """A model folder that is to be written."""

    def __init__(
        self,
        weights: TunedWeights,
        assets: ModelAssets,
        dtype: torch.dtype | None,
        changes: Mapping[str, Any] | None = None,
    ) -> None:
        """List the tensors of the folder.

        Args:
            weights: of the tuned model.
            assets: what surrounds them.
            dtype: of the floating-point tensors; None stores each as the base does.
            changes: entries of config.json that are not the base's.
        """
        self.weights, self.assets, self.changes = weights, assets, changes
        self.names = FileNames(weights)
        self.entries = [*self.names.entries(dtype)]

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return sum(entry.nbytes for entry in self.entries)

    @property
    def format(self) -> str:
        """Name of the widest format that a weight is stored in."""
        return str(self._widest).removeprefix("torch.")

    @property
    def _widest(self) -> torch.dtype:
        return max((entry.dtype for entry in self.entries), key=lambda dtype: dtype.itemsize)

    def write(self, folder: Path, written: Written) -> None:
        """Write everything into `folder`, which is made.

        Args:
            folder: does not exist yet.
            written: called with the bytes of each tensor that is written.
        """
        folder.mkdir()
        sizes = {entry.name: entry.nbytes for entry in self.entries}

        def blocks(name: str) -> Any:
            yield from self.names.blocks(name)
            written(sizes[name])

        write_shards(folder, shards(self.entries), blocks)
        self.assets.save(folder, self._widest, self.changes)
