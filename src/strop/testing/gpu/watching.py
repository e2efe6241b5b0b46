"""Out-of-bounds accesses and races between programs, seen by Triton's interpreter.

A GPU answers both with wrong numbers on some runs. The interpreter runs one program after another,
so that neither shows in its results: each access is looked at instead. `install` is for processes
that exist for these checks: it replaces parts of the interpreter.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter

from strop.testing.gpu.rounding import KernelError, RoundingBuilder, RoundingReduce

UNTOUCHED, SEVERAL = -1, -2


def install() -> None:
    """Watch every launch in this process, and round bfloat16 as a GPU does.

    Kernels may be defined before or after, but none launched before.
    """
    builder = WatchingBuilder()
    interpreter.interpreter_builder = builder
    interpreter.interpreter_semantic = TritonSemantic(builder)
    interpreter.GridExecutor = WatchedGrid
    interpreter.ReduceOps = RoundingReduce


class WatchedGrid(interpreter.GridExecutor):
    """One launch, whose tensors are the only memory its programs may touch."""

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Run every program of the grid."""
        named = {**dict(zip(self.arg_names, args, strict=False)), **kwargs}
        builder = interpreter.interpreter_builder
        before, builder.blocks = builder.blocks, _blocks(named)
        try:
            super().__call__(*args, **kwargs)
        finally:
            builder.blocks = before


class Block:
    """One storage: which of its bytes belong to tensors of the launch, and who touched them."""

    def __init__(self, name: str, low: int, size: int) -> None:
        self.name, self.low, self.high = name, low, low + size
        self.given = np.zeros(size, np.bool_)
        self.stored = np.full(size, UNTOUCHED, np.int32)
        self.loaded = np.full(size, UNTOUCHED, np.int32)

    def add(self, tensor: Any) -> None:
        """Allow access to the elements of a tensor."""
        if tensor.numel() == 0:
            return
        size = tensor.element_size()
        start = tensor.data_ptr() - self.low
        view = np.lib.stride_tricks.as_strided(
            self.given[start:],
            (*tensor.shape, size),
            (*(stride * size for stride in tensor.stride()), 1),
        )
        view[...] = True


class WatchingBuilder(RoundingBuilder):
    """The interpreter's memory accesses, each looked at before it happens."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[Block] = []

    def create_masked_load(
        self, ptrs: Any, mask: Any, other: Any, cache_policy: Any, is_volatile: Any
    ) -> Any:
        """Read."""
        self._look("load", ptrs, mask)
        return super().create_masked_load(ptrs, mask, other, cache_policy, is_volatile)

    def create_masked_store(self, ptrs: Any, value: Any, mask: Any, cache_policy: Any) -> Any:
        """Write."""
        self._look("store", ptrs, mask)
        return super().create_masked_store(ptrs, value, mask, cache_policy)

    def create_atomic_rmw(
        self, op: Any, ptr: Any, val: Any, mask: Any, sem: Any, scope: Any
    ) -> Any:
        """Change what other programs may change too."""
        self._look("atomic", ptr, mask)
        return super().create_atomic_rmw(op, ptr, val, mask, sem, scope)

    def _look(self, kind: str, ptrs: Any, mask: Any) -> None:
        size = max(1, ptrs.get_element_ty().primitive_bitwidth // 8)
        addresses = np.asarray(ptrs.data)[np.broadcast_to(mask.data, ptrs.data.shape)]
        addresses = addresses.astype(np.int64).ravel()
        unknown = np.ones(addresses.size, np.bool_)
        for block in self.blocks:
            inside = (addresses >= block.low) & (addresses + size <= block.high)
            if inside.any():
                at = addresses[inside] - block.low
                unknown[inside] = ~block.given[at]
                self._race(kind, block, at[block.given[at]], size)
        if unknown.any():
            first = int(addresses[unknown][0])
            near = min(self.blocks, key=lambda b: min(abs(first - b.low), abs(first - b.high)))
            raise KernelError(
                f"{kind} out of bounds: program {self.grid_idx}, {int(unknown.sum())} element(s), "
                f"the first at byte {first - near.low} of {near.name} ({near.high - near.low} bytes)"
            )

    def _race(self, kind: str, block: Block, at: Any, size: int) -> None:
        (x, y, z), (_, height, depth) = self.grid_idx, self.grid_dim
        program = (x * height + y) * depth + z
        stored, loaded = block.stored[at], block.loaded[at]
        by_others = (stored >= 0) & (stored != program)
        if kind == "load":
            if by_others.any():
                raise KernelError(
                    f"race: program {self.grid_idx} reads what another stores in "
                    f"{block.name}, element {int(at[by_others][0]) // size}"
                )
            block.loaded[at] = np.where(
                (loaded == UNTOUCHED) | (loaded == program), program, SEVERAL
            )
        elif kind == "store":
            by_others |= (loaded != UNTOUCHED) & (loaded != program)
            if by_others.any():
                raise KernelError(
                    f"race: program {self.grid_idx} stores what another touches in "
                    f"{block.name}, element {int(at[by_others][0]) // size}"
                )
            if len(np.unique(at)) != len(at):
                raise KernelError(
                    f"race: two lanes of program {self.grid_idx} store the same "
                    f"element of {block.name}"
                )
            block.stored[at] = program


def _blocks(arguments: dict[str, Any]) -> list[Block]:
    blocks: dict[int, Block] = {}
    for name, tensor in _tensors(arguments):
        storage = tensor.untyped_storage()
        block = blocks.get(storage.data_ptr())
        if block is None:
            block = Block(name, storage.data_ptr(), storage.nbytes())
            blocks[storage.data_ptr()] = block
        block.add(tensor)
    return list(blocks.values())


def _tensors(arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in arguments.items():
        if isinstance(value, tuple | list):
            yield from _tensors({f"{name}[{i}]": member for i, member in enumerate(value)})
        elif hasattr(value, "untyped_storage"):
            yield name, value
