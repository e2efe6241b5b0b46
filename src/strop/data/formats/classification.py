"""Classification: texts with labels, and the instruction that stands before each text."""

from collections.abc import Iterable, Sequence
from typing import Any

from strop.data.formats.messages import FaultyRecordError, text_in
from strop.data.formats.questions import reasoning_in
from strop.data.formats.record import Record, is_missing
from strop.data.formats.survey import Survey

MOST_NAMED = 50
"""Labels that an instruction names; of more it names none."""


def is_labelled(survey: Survey, columns: Sequence[str]) -> bool:
    """Whether the last column holds labels: short values on one line."""
    return survey[columns[-1]].short


def is_repeated(survey: Survey, columns: Sequence[str]) -> bool:
    """Whether the last column holds short values that repeat, whatever its name."""
    return survey[columns[-1]].repeats


def instruction(survey: Survey, columns: Sequence[str]) -> str:
    """Return what is asked of each text, as in `Classify the text as one of: bad, good.`.

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
    """Return labels in one order whatever that of the rows: numbers by value, else by letters."""
    try:
        return sorted(labels, key=float)
    except ValueError:
        return sorted(labels)


def question_and_label(
    record: Record, columns: Sequence[str], told: str | None
) -> list[dict[str, Any]]:
    """Return the messages of one labelled row.

    Args:
        record: the row; an `instruction` of its own stands in place of `told`.
        columns: of the texts, and last of the labels.
        told: what stands before each text; empty for nothing.
    """
    *texts, label = columns
    if is_missing(record[label]):
        raise FaultyRecordError("empty_answers", f"{label} is empty, so the row has no label")
    own = record.get("instruction")
    lead = text_in(record, "instruction") if not is_missing(own) else told
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
