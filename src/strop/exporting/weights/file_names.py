"""The weights of a model under the names that its own files have for them."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from strop.core.errors import UnsupportedError
from strop.exporting.weights.base_weights import StoredBase
from strop.exporting.weights.streaming import Entry
from strop.exporting.weights.tuned import BaseWeights
from strop.models.files.layout import Group


class FileNames:
    """Weights that are written as the base's files have them: named, stacked and apart as there."""

    def __init__(self, weights: BaseWeights) -> None:
        """Map the names.

        Raises:
            UnsupportedError: transformers reads tensors of the base's files in a way that it cannot
                turn back.
        """
        self._weights = weights
        layout = weights.base.layout
        self._names = layout.files
        self._groups = {name: group for group in layout.groups for name in group.memory}
        for group in layout.groups:
            if not group.reversible:
                raise UnsupportedError(
                    f"transformers reads {group.files[0]} ({len(group.files)} such tensors) as "
                    f"{group.memory[0]} and cannot write it back; export --to adapter"
                )
        self._of = {name: group for group in layout.groups for name in group.files}
        self._ready: dict[str, Tensor] = {}

    def of(self, name: str) -> str:
        """Return the name in the files of a weight that is one tensor there."""
        return self._names.get(name, name)

    def entries(self, dtype: torch.dtype | None) -> Iterator[Entry]:
        """Yield every tensor of the files, in their order.

        Args:
            dtype: of all; None stores each as the base does.
        """
        seen: set[Group] = set()
        for name in self._weights.names:
            kind = dtype or self._weights.stored(name)
            if (group := self._groups.get(name)) is None:
                yield Entry(self.of(name), self._weights.shape(name), kind)
            elif group not in seen:
                seen.add(group)
                for part in group.files:
                    yield Entry(part, self._base.file_shape(part), kind)

    def blocks(self, name: str) -> Iterable[Tensor]:
        """Return a tensor of the files as runs of its rows, in float32."""
        if (group := self._of.get(name)) is None:
            return self._weights.blocks(self._memory(name))
        if name not in self._ready:
            tensors = {k: torch.cat([*self._weights.blocks(k)]) for k in group.memory}
            self._ready |= self._base.converting.written(group, tensors)
        return [self._ready.pop(name)]

    def _memory(self, name: str) -> str:
        return self._weights.base.layout.names.get(name, name)

    @property
    def _base(self) -> StoredBase:
        base = self._weights.base
        assert isinstance(base, StoredBase)  # weights in few bits are linear layers, one by one
        return base
