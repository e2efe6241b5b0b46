"""Segments of tokens in depth-first order, each with its parent: which tokens see which."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from strop.core.errors import ShapeError


@dataclass(frozen=True)
class Segments:
    """Segments of tokens that together form a forest, laid out depth-first in one row.

    A token attends to every token of its ancestor segments and causally to its own. A plain batch of
    B sequences is B segments without parents; a prompt with several answers is one with children.
    Depth-first order means that the descendants of a segment follow it without a gap.
    """

    lengths: tuple[int, ...]
    """Tokens of each segment."""
    parents: tuple[int | None, ...]
    """Index of the segment each one continues, or None; a parent stands before its children."""

    def __post_init__(self) -> None:
        if len(self.lengths) != len(self.parents):
            raise ShapeError(
                f"Segments takes one parent per segment; got {len(self.lengths)} lengths "
                f"and {len(self.parents)} parents"
            )
        open_segments: list[int] = []
        for segment, (length, parent) in enumerate(zip(self.lengths, self.parents, strict=True)):
            if length < 1:
                raise ShapeError(
                    f"segment {segment} has {length} tokens; every segment holds at least one"
                )
            while open_segments and open_segments[-1] != parent:
                open_segments.pop()
            if parent is not None and not open_segments:
                raise ShapeError(
                    f"segment {segment} does not follow its parent {parent} depth-first"
                )
            open_segments.append(segment)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First row of each segment."""
        starts, at = [], 0
        for length in self.lengths:
            starts.append(at)
            at += length
        return tuple(starts)

    @property
    def size(self) -> int:
        """Number of tokens N."""
        return sum(self.lengths)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Tokens of all ancestors of each segment: the depth of its first token."""
        offsets: list[int] = []
        for parent in self.parents:
            offsets.append(0 if parent is None else offsets[parent] + self.lengths[parent])
        return tuple(offsets)

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Row after the last descendant of each segment."""
        ends = [s + n for s, n in zip(self.starts, self.lengths, strict=True)]
        for segment in reversed(range(len(ends))):
            if (parent := self.parents[segment]) is not None:
                ends[parent] = max(ends[parent], ends[segment])
        return tuple(ends)

    def ancestors(self, segment: int) -> Iterator[int]:
        """Yield the segments above `segment`, nearest first."""
        at = self.parents[segment]
        while at is not None:
            yield at
            at = self.parents[at]

    def depth_reach(self) -> int:
        """Return the length of the longest path from a root to a leaf, in tokens."""
        ends = (o + n for o, n in zip(self.offsets, self.lengths, strict=True))
        return max(ends, default=0)
