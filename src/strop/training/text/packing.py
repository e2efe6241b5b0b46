"""Exact packing: every token of every text is predicted once, and no block mixes what texts see."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

import numpy as np

T = TypeVar("T")


class Lazy(Sequence[T], Generic[T]):
    """Sequence whose items are computed when they are read."""

    def __init__(self, length: int, item: Callable[[int], T]) -> None:
        """Compute item `i` by `item(i)`, 0 <= i < length."""
        self._range, self._item = range(length), item

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._item(i) for i in self._range[index]]
        return self._item(self._range[index])

    def __iter__(self) -> Iterator[T]:
        return map(self._item, self._range)


@dataclasses.dataclass(frozen=True, slots=True)
class Pieces:
    """Parts of texts that fit into a block: tokens `starts[i]` and the `sizes[i] - 1` behind it."""

    starts: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def tokens(self) -> int:
        """Number of tokens of all pieces."""
        return int(self.sizes.sum())


def pieces(starts: Sequence[int], lengths: Sequence[int], room: int) -> Pieces:
    """Return texts divided into pieces of at most `room` tokens.

    A piece begins with the last token of the one before, which is not predicted again: a model
    predicts each token from those before it, so every token of a text but its first is predicted
    once. Texts of one token predict nothing and have no piece.

    Args:
        starts: index of the first token of each text.
        lengths: of each text.
        room: tokens of a block, at least 2.
    """
    divided = [
        (start + i, min(room, length - i))
        for start, length in zip(starts, lengths, strict=True)
        for i in range(0, length - 1, room - 1)
    ]
    table = np.array(divided, dtype=np.int64).reshape(-1, 2)
    return Pieces(table[:, 0], table[:, 1])


def best_fit(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Return blocks of at most `room` tokens, each the numbers of its pieces (best-fit decreasing).

    From the longest piece to the shortest, each goes into the fullest block that has room for it
    (TRL's packing "bfd"), which leaves hardly any room unused.
    """
    blocks: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(room + 1)]
    rooms = 0  # bit r is set if a block has r tokens left
    for piece in np.argsort(-np.asarray(sizes), kind="stable").tolist():
        size = int(sizes[piece])
        fitting = rooms >> size
        if fitting:
            left = size + (fitting & -fitting).bit_length() - 1
            block = with_room[left].pop()
            if not with_room[left]:
                rooms &= ~(1 << left)
        else:
            left, block = room, len(blocks)
            blocks.append([])
        blocks[block].append(piece)
        with_room[left - size].append(block)
        rooms |= 1 << (left - size)
    return blocks
