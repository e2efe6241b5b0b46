"""Classification: texts with labels, and the instruction that precedes each text."""

from collections.abc import Iterable, Sequence
from typing import Any

from strop.data.formats.cells import FaultyRecordError, text_in
from strop.data.formats.questions import reasoning_in
from strop.data.formats.record import Record, is_missing
from strop.data.formats.survey import Survey

MOST_NAMED = 50
"""Most labels that an instruction names; of more it names none."""


def is_labelled(survey: Survey, columns: Sequence[str]) -> bool:
    """Return whether the last column holds labels: short values on one line."""
    return survey[columns[-1]].short


def is_repeated(survey: Survey, columns: Sequence[str]) -> bool:
    """Return whether the last column holds short values that repeat."""
    return survey[columns[-1]].repeats


def instruction(survey: Survey, columns: Sequence[str]) -> str:
    """Return the instruction for texts with labels: `Classify the text as one of: bad, good.`.

    Args:
        survey: the columns of all rows.
        columns: those of the texts, and last that of the labels.
    """
    texts = "the text" if len(columns) == 2 else "the texts"
    labels = survey[columns[-1]].distinct
    if not 1 < len(labels) <= MOST_NAMED:
        return f"Classify {texts}."
    return f"Classify {texts} as one of: {', '.join(_ordered(labels))}."


def _ordered(labels: Iterable[str]) -> list[str]:
    """Return labels sorted, numbers by value, so that the order of rows does not matter."""
    try:
        return sorted(labels, key=float)
    except ValueError:
        return sorted(labels)


def question_and_label(
    record: Record, columns: Sequence[str], instruction: str | None
) -> list[dict[str, Any]]:
    """Return the messages of one labelled row.

    Args:
        record: the row; its column `instruction`, if it has one, replaces `instruction`.
        columns: of the texts, and last of the labels.
        instruction: what precedes each text; empty for nothing.
    """
    *texts, label = columns
    if is_missing(record[label]):
        raise FaultyRecordError("empty_answers", f"{label} is empty, so the row has no label")
    lead = instruction if is_missing(record.get("instruction")) else text_in(record, "instruction")
    if len(texts) == 1:
        question = text_in(record, texts[0], empty=False)
    else:
        question = "\n".join(f"{name}: {text_in(record, name, empty=False)}" for name in texts)
    question = f"{lead}\n\n{question}" if lead else question
    return [
        {"role": "user", "content": question},
        {
            **reasoning_in(record),
            "role": "assistant",
            "content": text_in(record, label, empty=False),
        },
    ]
