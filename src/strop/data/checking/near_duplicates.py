"""Rows that are equal, nearly equal, or answer the same question differently."""

import hashlib
import importlib.util
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from strop.data.message_text import content_text, full_text
from strop.data.rows import Row
from strop.data.words import first_words, squeezed

PERMUTATIONS = 64
BANDS = 8
_MOST_COMPARED = 64
SIMILARITY = 0.85
"""Estimated Jaccard similarity of word triples from which two rows count as nearly equal."""


def digest(text: str) -> bytes:
    """Return a short digest of a text that ignores case and white space."""
    return hashlib.blake2b(
        squeezed(text.lower()).encode("utf-8", "replace"), digest_size=12
    ).digest()


def question_of(row: Row) -> str:
    """Return the messages before the last one of a row as one text."""
    messages = row.messages or []
    return "\n".join(f"{m['role']}: {content_text(m)}" for m in messages[:-1])


def text_of_row(row: Row) -> str:
    """Return all text of a row, in KTO data with its label."""
    if row.messages is None:
        return row.text or ""
    texts = [full_text(m) for m in (*row.messages, *(row.rejected or ()))]
    return "\n".join(texts if row.label is None else (*texts, str(row.label)))


@dataclass(slots=True)
class NearDuplicates:
    """Digests and MinHash sketches of rows, by which equal and similar ones are known."""

    whole: dict[bytes, list[int]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    """Digest of a question -> its first answer and the line."""
    others: dict[bytes, dict[bytes, int]] = field(default_factory=lambda: defaultdict(dict))
    """Digest of a question with several answers -> the others and their first lines."""
    shingles: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    sketching: bool = field(default_factory=lambda: importlib.util.find_spec("rensa") is not None)
    """True if the package that computes sketches is installed."""
    sketches: list[NDArray[np.uint32]] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add a row."""
        text = text_of_row(row)
        key = digest(text)
        first = key not in self.whole
        self.whole[key].append(row.line)
        if row.messages and row.label is None and row.messages[-1]["role"] == "assistant":
            answer = digest(full_text(row.messages[-1]))
            question = digest(question_of(row))
            if self.answers.setdefault(question, (answer, row.line))[0] != answer:
                self.others[question].setdefault(answer, row.line)
        if first and self.sketching:
            words = first_words(text.lower(), 2002)
            triples = list(map(" ".join, zip(words, words[1:], words[2:], strict=False)))
            self.shingles.append(triples or [" ".join(words)])
            self.lines.append(row.line)
            if len(self.shingles) >= 1024:
                self._sketch()

    def _sketch(self) -> None:
        import rensa

        sketches = rensa.RMinHash.digests_from_token_sets(self.shingles, PERMUTATIONS, 42)
        self.sketches.append(np.array(sketches, np.uint32))
        self.shingles.clear()

    def equal(self) -> list[list[int]]:
        """Return the lines of rows that are equal, group by group."""
        return [lines for lines in self.whole.values() if len(lines) > 1]

    def contradicting(self) -> list[list[int]]:
        """Return the lines of rows with the same question and different answers."""
        return [
            sorted((self.answers[question][1], *lines.values()))
            for question, lines in self.others.items()
        ]

    def nearly_equal(self, other: "NearDuplicates | None" = None) -> list[list[int]]:
        """Return the lines of rows that are nearly equal, group by group.

        Args:
            other: rows to compare with instead; each group is then one row of these, and the rows
                of the others that are similar to it.
        """
        mine, theirs = self._table(), (other or self)._table()
        lines = (other or self).lines
        near = _candidates(mine, None if other is None else theirs)
        groups: list[list[int]] = []
        taken: set[int] = set()
        for i, candidates in near.items():
            after = [j for j in candidates if other is not None or (j > i and j not in taken)]
            if not after or (other is None and i in taken):
                continue
            alike = (theirs[after] == mine[i]).mean(axis=1) >= SIMILARITY
            same = sorted(j for j, fits in zip(after, alike, strict=True) if fits)
            if same:
                taken.update(same)
                groups.append([self.lines[i], *(lines[j] for j in same)])
        return groups

    def _table(self) -> NDArray[np.uint32]:
        """Return the sketches [N, PERMUTATIONS] of the distinct rows."""
        if self.shingles:
            self._sketch()
        return np.concatenate(self.sketches) if self.sketches else np.empty((0, 64), np.uint32)


def _candidates(mine: NDArray[np.uint32], theirs: NDArray[np.uint32] | None) -> dict[int, set[int]]:
    """Return for each row the rows that share a band with it, which may be nearly equal.

    Of many similar rows only the first ones are compared with all.

    Args:
        mine: [N, PERMUTATIONS] sketches.
        theirs: [M, PERMUTATIONS] sketches to look in; None looks in `mine`.
    """
    near: dict[int, set[int]] = defaultdict(set)
    for band in range(BANDS):
        keys = _keys(mine, band)
        others = keys if theirs is None else _keys(theirs, band)
        order = np.argsort(others, kind="stable")
        ranked = others[order]
        first, last = (np.searchsorted(ranked, keys, side) for side in ("left", "right"))
        for i in np.flatnonzero(last - first > (theirs is None)).tolist():
            same = order[first[i] : last[i]]
            if theirs is not None:
                near[i].update(same[:_MOST_COMPARED].tolist())
            elif i in same[:_MOST_COMPARED]:
                near[i].update(same.tolist())
    return near


def _keys(table: NDArray[np.uint32], band: int) -> NDArray[np.uint64]:
    """Return a number [N] for each row that is the same for rows with an equal band."""
    width = PERMUTATIONS // BANDS
    part = table[:, band * width : (band + 1) * width].astype(np.uint64)
    odd = np.uint64(0x9E3779B97F4A7C15) ** np.arange(1, width + 1, dtype=np.uint64)
    return (part * odd).sum(axis=1, dtype=np.uint64)
