"""What a file of training data holds, once read: rows, examples, and the faults found."""

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
    """Where it begins: the line of a text file, else the how-manieth row; from 1."""
    messages: list[Message] | None = None
    """The conversation, or None for a plain text."""
    text: str | None = None
    """The plain text, or None for a conversation."""
    tools: list[dict[str, Any]] | None = None
    """The tools the conversation may call, as JSON schemas."""
    rejected: list[Message] | None = None
    """In preference data, the worse conversation; `messages` is the better one."""
    label: bool | None = None
    """In KTO data, whether the answer is wanted."""
    weights: tuple[float, ...] | None = None
    """How much each message counts in the loss, where the data says so; 0 takes no part."""
    merged: bool = False
    """Whether an answer stood in several messages: a thought, words and calls in their own."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row as the model sees it."""

    ids: list[int]
    """Token ids."""
    labels: list[int]
    """The same ids where the token carries loss, -100 elsewhere."""
    line: int
    """The line of its row."""
    cut: int = 0
    """How many tokens were cut off at the end to meet `max_length`."""
    weights: list[float] | None = None
    """How much each token's loss counts, where the row says so; None counts each once."""
    dropped: tuple[str, ...] = ()
    """What the chat template leaves out of the row, as kinds of findings."""


@dataclass(frozen=True, slots=True)
class Rows(Sequence[Row]):
    """The rows of one source, in its order."""

    rows: list[Row]
    format: str
    """How the columns were understood, such as `messages` or `instruction`."""
    source: str
    """The path or the name the rows came from."""
    instruction: str | None = None
    """What stands before each text of a classification."""
    notes: tuple[str, ...] = ()
    """What a reader should know of how the columns were understood."""
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
    """Why one row cannot be used."""

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
        said = [f"  {spoken_lines(lines)}: {reason}" for reason, lines in by_reason.items()]
        super().__init__("\n".join([heading, *said, *([remedy] if remedy else [])]))


def spoken_lines(lines: Iterable[int]) -> str:
    """Return `line 3` or `lines 1, 4-6, 9`: each number once, neighbours joined."""
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
