"""Answers that a method compares, as tokens: cut to max_length, counted, with their digest."""

import hashlib
from array import array
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from strop.core.errors import ConfigError
from strop.data import Example
from strop.data.rows import BrokenRowsError, Fault
from strop.planning.settings import Settings
from strop.runs.run_data import SplitRows
from strop.training.dataset import row_facts


class Compared(Protocol):
    """A prompt with one answer or several."""

    @property
    def line(self) -> int:
        """The line of its row."""

    @property
    def cut(self) -> int:
        """Number of tokens cut off to meet `max_length`."""

    @property
    def prompt(self) -> list[int]:
        """Token ids."""

    @property
    def answers(self) -> tuple[list[int], ...]:
        """Token ids of each."""

    @property
    def marks(self) -> tuple[int, ...]:
        """What else of the row decides its loss."""


C = TypeVar("C", bound=Compared)


def check_reasoning(settings: Settings) -> None:
    """Raise ConfigError if reasoning is to be left out of answers that are compared whole."""
    if not settings.reasoning:
        raise ConfigError(
            f"reasoning is false, but method {settings.method} takes an answer whole; leave reasoning "
            "out, or imitate answers with method sft"
        )


def late_answer(line: int, max_length: int) -> Fault:
    """Return the fault of a row whose answer begins after max_length."""
    reason = (
        f"the answer begins after the first {max_length} tokens and the row is cut there; raise "
        "max_length or shorten the prompt"
    )
    return Fault(line, reason, "no_loss")


def split_with_facts(
    rows: SplitRows,
    encoded: Sequence[Example],
    fitted: Sequence[C | Fault],
    longest: int,
    max_length: int,
) -> tuple[list[C], list[C], dict[str, Any]]:
    """Return training rows, held-out rows and the facts about both.

    Args:
        rows: read and split.
        encoded: the rows as tokens, for what their chat template leaves out.
        fitted: the rows cut to max_length, or what is wrong with them.
        longest: tokens of the longest row before.
        max_length: tokens that a row may have.

    Raises:
        DataError: some cannot be used; all listed.
    """
    if faults := [row for row in fitted if isinstance(row, Fault)]:
        raise BrokenRowsError(rows.source, faults, len(fitted))
    usable = [row for row in fitted if not isinstance(row, Fault)]
    train, held_out = usable[: len(rows.train)], usable[len(rows.train) :]
    supervised = sum(len(answer) for row in train for answer in row.answers)
    facts = row_facts(rows, encoded) | {
        "tokens": sum(len(row.prompt) for row in train) + supervised,
        "supervised_tokens": supervised,
        "longest_row": longest,
        "max_length": max_length,
        "cut_lines": sorted(row.line for row in usable if row.cut),
        "cut_tokens": sum(row.cut for row in usable),
        "divided_lines": [],
        "sha256": _digest(train, held_out),
    }
    return train, held_out, facts


def _digest(*parts: Sequence[Compared]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"part {len(part)} ".encode())
        for row in part:
            for ids in (row.prompt, *row.answers, row.marks):
                digest.update(f"{len(ids)} ".encode())
                digest.update(array("q", ids).tobytes())
    return digest.hexdigest()
