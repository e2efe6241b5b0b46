"""Rows of a data set, their examples, and faults."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from strop.core.errors import DataError

Message = dict[str, Any]
"""One turn of a conversation: `role`, `content`, and what tools and reasoning add to them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file: a conversation, or a plain text."""

    line: int
    """Line number in a text file, else row number; counted from 1."""
    messages: list[Message] | None = None
    """The conversation, or None for a plain text."""
    text: str | None = None
    """The plain text, or None for a conversation."""
    tools: list[dict[str, Any]] | None = None
    """The tools the conversation may call, as JSON schemas."""
    rejected: list[Message] | None = None
    """In preference data, the worse conversation; `messages` is the better one."""
    label: bool | None = None
    """In KTO data, whether the answer is desirable."""
    weights: tuple[float, ...] | None = None
    """Loss weight of each message, if the data has any; 0 takes no part."""
    merged: bool = False
    """True if an answer was in several messages: reasoning, text and calls each in one."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row as token ids and labels."""

    ids: list[int]
    """Token ids."""
    labels: list[int]
    """`ids` where the token is supervised, `IGNORE_INDEX` elsewhere."""
    line: int
    """The line of its row."""
    cut: int = 0
    """Number of tokens cut off at the end to meet `max_length`."""
    weights: list[float] | None = None
    """Loss weight of each token, if the row has any; None weighs each 1."""
    dropped: tuple[str, ...] = ()
    """Kinds of the findings about parts of the row that the chat template leaves out."""
    divisible: bool = False
    """True if the row is a plain text, of which every part is an example too."""


@dataclass(frozen=True, slots=True)
class Rows(Sequence[Row]):
    """The rows of one source, in its order."""

    rows: list[Row]
    format: str
    """Format of the columns, such as `messages` or `instruction`."""
    source: str
    """Path or name of the source."""
    instruction: str | None = None
    """Text that precedes each text of a classification."""
    notes: tuple[str, ...] = ()
    """Sentences about how the columns are understood."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Columns with content that the format does not read, each with one of its values."""

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self.rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


@dataclass(frozen=True, slots=True)
class Fault:
    """Reason why one row cannot be used."""

    line: int
    reason: str
    kind: str = field(default="broken", compare=False)
    """A short name for programs, such as `bad_json`."""


class BrokenRowsError(DataError):
    """Rows that cannot be used: the text lists each, by line number and reason.

    Attributes:
        faults: every fault, in the order of the lines.
        source: the path or name of the data.
        total: how many rows there are, broken ones included.
    """

    def __init__(self, source: str, faults: Iterable[Fault], total: int, remedy: str = "") -> None:
        self.source = source
        self.faults = sorted(faults, key=lambda f: (f.line, f.reason))
        self.total = total
        broken = len({f.line for f in self.faults})
        one = "row" if total == 1 else "rows"
        heading = f"{source}: {broken} of {total} {one} cannot be used:"
        by_reason: dict[str, list[int]] = defaultdict(list)
        for fault in self.faults:
            by_reason[fault.reason].append(fault.line)
        reasons = [f"  {format_lines(lines)}: {reason}" for reason, lines in by_reason.items()]
        super().__init__("\n".join([heading, *reasons, *([remedy] if remedy else [])]))


def format_lines(lines: Iterable[int]) -> str:
    """Return `line 3` or `lines 1, 4-6, 9`: distinct numbers, consecutive ones joined."""
    ordered = sorted(set(lines))
    if len(ordered) == 1:
        return f"line {ordered[0]}"
    spans: list[list[int]] = []
    for line in ordered:
        if spans and line == spans[-1][1] + 1:
            spans[-1][1] = line
        else:
            spans.append([line, line])
    return "lines " + ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
