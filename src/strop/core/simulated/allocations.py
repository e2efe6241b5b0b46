"""Bytes of live tensors and their peak: every storage is followed from its first use."""

import contextlib
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from strop.core.system.heap import LARGE

TEMPORARY = "temporaries"


class Allocations(TorchDispatchMode):
    """Counts the bytes of every storage that first shows as the result of an operation.

    What exists before is not counted until it is claimed. Works on tensors with and without data.

    Args:
        device: count what lies on devices of this type; None counts all.
    """

    def __init__(self, device: str | None = None) -> None:
        super().__init__()
        self.device = device
        self.live: Counter[str] = Counter()
        """Bytes by kind, as they are now."""
        self.total = 0
        self.peak = 0
        self.at_peak: dict[str, int] = {}
        """Bytes by kind at the peak."""
        self.resident = 0
        """Most bytes of the process: what a C library got for small blocks it does not give back
        (see `strop.core.system.heap`), and large ones find no room between them. Never forgotten."""
        self._small = self._most_small = 0
        self._known: dict[int, tuple[str, int]] = {}

    def claim(self, kind: str, tensors: Iterable[Tensor | None]) -> None:
        """Count these tensors, made before or not, as `kind`."""
        for t in tensors:
            if t is not None and self._counts(t):
                self._count(t.untyped_storage(), kind)

    @contextlib.contextmanager
    def saved_for_backward(self, kind: str) -> Iterator[None]:
        """Count as `kind` what autograd saves inside the block and nothing else has claimed."""

        def keep(t: Tensor) -> Tensor:
            if self._known.get(t.untyped_storage()._cdata, ("",))[0] == TEMPORARY:
                self.claim(kind, (t,))
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            yield

    def restart(self) -> None:
        """Forget the peak so far."""
        self.peak, self.at_peak = self.total, dict(self.live)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and meet its tensors."""
        for t in tree_leaves((args, kwargs or {})):
            if isinstance(t, Tensor) and self._counts(t):
                self._meet(t, None)
        result = func(*args, **(kwargs or {}))
        for t in tree_leaves(result):
            if isinstance(t, Tensor) and self._counts(t):
                self._meet(t, TEMPORARY)
        return result

    def _counts(self, t: Tensor) -> bool:
        return self.device is None or t.device.type == self.device

    def _meet(self, t: Tensor, kind: str | None) -> None:
        """Take note of a storage; without a kind it is one that is not counted."""
        storage = t.untyped_storage()
        if storage._cdata not in self._known:
            self._count(storage, kind)

    def _count(self, storage: torch.UntypedStorage, kind: str | None) -> None:
        key, size = storage._cdata, 0 if kind is None else storage.nbytes()
        if key in self._known:
            self._forget(key)
        else:
            weakref.finalize(storage, self._forget, key)
        kind = kind or ""
        self._known[key] = kind, size
        self._hold(kind, size)
        self._look()

    def _forget(self, key: int) -> None:
        kind, size = self._known.pop(key, ("", 0))
        self._hold(kind, -size)

    def _hold(self, kind: str, size: int) -> None:
        self.live[kind] += size
        self.total += size
        if abs(size) < LARGE:
            self._small += size

    def _look(self) -> None:
        """Record the current bytes if they are the most so far."""
        if self.total > self.peak:
            self.peak, self.at_peak = self.total, dict(self.live)
        self._most_small = max(self._most_small, self._small)
        self.resident = max(self.resident, self.total + self._most_small - self._small)
