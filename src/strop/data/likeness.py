"""Finds rows that are equal, nearly equal, or answer the same question differently."""

import hashlib
import importlib.util
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from strop.data.encoding import all_said, spoken_content
from strop.data.rows import Row

PERMUTATIONS = 64
BANDS = 8
_MOST_COMPARED = 64
ALIKE = 0.85
"""Share of common word triples from which two rows count as nearly equal."""


def digest(text: str) -> bytes:
    """Return a short fingerprint of a text, blind to case and spaces."""
    plain = " ".join(text.lower().split())
    return hashlib.blake2b(plain.encode("utf-8", "replace"), digest_size=12).digest()


def question_of(row: Row) -> str:
    """Return what stands before the last answer of a row."""
    messages = row.messages or []
    return "\n".join(f"{m['role']}: {spoken_content(m)}" for m in messages[:-1])


def text_of_row(row: Row) -> str:
    """Return all a row says, and in KTO data whether it is wanted."""
    if row.messages is None:
        return row.text or ""
    said = [all_said(m) for m in (*row.messages, *(row.rejected or ()))]
    return "\n".join(said if row.label is None else (*said, str(row.label)))


@dataclass(slots=True)
class Likeness:
    """Collects fingerprints of rows, then says which are alike."""

    whole: dict[bytes, list[int]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[bytes, dict[bytes, int]] = field(default_factory=lambda: defaultdict(dict))
    shingles: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    sketching: bool = field(default_factory=lambda: importlib.util.find_spec("rensa") is not None)
    """Whether the package that finds near-duplicates is installed."""
    sketches: list[NDArray[np.uint32]] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Take a row in."""
        text = text_of_row(row)
        key = digest(text)
        first = key not in self.whole
        self.whole[key].append(row.line)
        if row.messages and row.label is None and row.messages[-1]["role"] == "assistant":
            answer = digest(all_said(row.messages[-1]))
            self.answers[digest(question_of(row))].setdefault(answer, row.line)
        if first and self.sketching:
            words = text.lower().split()
            triples = [" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))]
            self.shingles.append(triples[:2000])
            self.lines.append(row.line)
            if len(self.shingles) >= 4096:
                self._sketch()

    def _sketch(self) -> None:
        import rensa

        made = rensa.RMinHash.digests_from_token_sets(self.shingles, PERMUTATIONS, 42)
        self.sketches.append(np.array(made, np.uint32))
        self.shingles.clear()

    def equal(self) -> list[list[int]]:
        """Return the lines of rows that are equal, group by group."""
        return [lines for lines in self.whole.values() if len(lines) > 1]

    def contradicting(self) -> list[list[int]]:
        """Return the lines of rows with the same question and different answers."""
        return [sorted(found.values()) for found in self.answers.values() if len(found) > 1]

    def nearly_equal(self, other: "Likeness | None" = None) -> list[list[int]]:
        """Return the lines of rows that are nearly equal, group by group.

        Args:
            other: give groups of one row of this and the rows of that which are like it instead;
                the first line is of this one.
        """
        mine, theirs = self._table(), (other or self)._table()
        lines = (other or self).lines
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for i, key in _keys(theirs):
            buckets[key].append(i)
        near: dict[int, set[int]] = defaultdict(set)
        for i, key in _keys(mine):
            held = buckets.get(key, [])
            if other is not None or len(held) > 1:
                near[i].update(held[:_MOST_COMPARED] if other is not None else held)
        groups: list[list[int]] = []
        taken: set[int] = set()
        for i, found in near.items():
            after = [j for j in found if other is not None or (j > i and j not in taken)]
            if not after or (other is None and i in taken):
                continue
            alike = (theirs[after] == mine[i]).mean(axis=1) >= ALIKE
            same = sorted(j for j, fits in zip(after, alike, strict=True) if fits)
            if same:
                taken.update(same)
                groups.append([self.lines[i], *(lines[j] for j in same)])
        return groups

    def _table(self) -> NDArray[np.uint32]:
        """Return the sketches, one row for each different row of the data."""
        if self.shingles:
            self._sketch()
        return np.concatenate(self.sketches) if self.sketches else np.empty((0, 64), np.uint32)


def _keys(table: NDArray[np.uint32]) -> Iterable[tuple[int, bytes]]:
    """Yield each row's keys: rows with a key in common may be nearly equal."""
    width = PERMUTATIONS // BANDS
    for band in range(BANDS):
        part = np.ascontiguousarray(table[:, band * width : (band + 1) * width])
        for i, key in enumerate(part):
            yield i, bytes([band]) + key.tobytes()
