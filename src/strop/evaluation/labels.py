"""Answers from a small set of labels: which they are, and the rows that put each to the model."""

import dataclasses
from collections.abc import Sequence

from strop.data import Row

MOST_LABELS = 20


def right_answer(row: Row) -> str | None:
    """Return the last message of a row if the assistant says it as plain text, else None."""
    if not row.messages or row.messages[-1]["role"] != "assistant":
        return None
    content = row.messages[-1].get("content")
    return content if isinstance(content, str) else None


def label_set(rows: Sequence[Row]) -> list[str] | None:
    """Return the labels, sorted, if every answer is one of a few that repeat; else None.

    At most 20 distinct answers count as labels, and each must serve two rows on average.
    """
    answers = [right_answer(row) for row in rows if not unanswered(row)]
    given = {a for a in answers if a is not None}
    if None in answers or not 2 <= len(given) <= MOST_LABELS or 2 * len(given) > len(answers):
        return None
    return sorted(given)


def unanswered(row: Row) -> bool:
    """Return whether a row is a conversation that ends before an answer."""
    return bool(row.messages) and row.messages[-1]["role"] != "assistant"  # type: ignore[index]


def with_answer(row: Row, text: str) -> Row:
    """Return the row with `text` as its answer, and no reasoning before it.

    The row's own reasoning would tell the label, which the model is to find.
    """
    assert row.messages
    if row.messages[-1]["role"] != "assistant":
        messages = [*row.messages, {"role": "assistant", "content": text}]
    else:
        last = {k: v for k, v in row.messages[-1].items() if k != "reasoning_content"}
        messages = [*row.messages[:-1], {**last, "content": text}]
    return dataclasses.replace(row, messages=messages, weights=None)


def reasons(row: Row) -> bool:
    """Return whether the row's answer has reasoning before it."""
    return bool(row.messages and row.messages[-1].get("reasoning_content"))
