"""Rows of which no answer is known, read as the rows with answers that a run was trained on."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch

from strop.core.errors import DataError
from strop.data.formats.known import FORMATS
from strop.data.formats.record import Record, Shapes, is_missing
from strop.data.reading.columns import Columns
from strop.data.reading.read import examine, source_name
from strop.data.reading.sources import records
from strop.data.rows import BrokenRowsError, Fault
from strop.evaluation.rows import EvaluationRows

PLACEHOLDER = "?"
"""Answer that stands in for one that is not known while a row is read."""
_QUESTIONS = ("instruction", "question_answer", "input_output", "multiple_choice")
"""Formats by which a file with questions alone is read where no run says how."""


def rows_to_answer(
    source: Any, columns: Columns, trained_format: str | None
) -> tuple[EvaluationRows, list[Fault]]:
    """Return the rows of a source with or without answers, and the faults of those that are unusable.

    Args:
        source: what `strop.data.read` takes.
        columns: how its columns are read.
        trained_format: of the data that a run was trained on; None for a model.

    Raises:
        DataError: the source cannot be read, or no row of it can be used.
    """
    numbered = list(records(source, columns.encoding))
    name = source_name(source)
    faults = [item for _, item in numbered if isinstance(item, Fault)]
    readable = [(line, item) for line, item in numbered if not isinstance(item, Fault)]
    if not readable:
        if not faults:
            raise DataError(f"{name} holds no rows")
        raise BrokenRowsError(name, faults, len(numbered), "No row could be read.")
    answer = _answer_column([item for _, item in readable], columns, trained_format, name)
    completed = [_completed(item, answer) for _, item in readable]
    examined = examine(completed, columns)
    lines = [line for line, _ in readable]
    faults += [dataclasses.replace(f, line=lines[f.line - 1]) for f in examined.faults]
    if not examined.rows:
        raise BrokenRowsError(name, faults, len(numbered))
    if all(row.messages is None for row in examined.rows) and trained_format != "text":
        raise DataError(
            f"{name} is read as plain texts, which ask for no answer; --map text=prompt puts each as "
            "a question"
        )
    rows = EvaluationRows(
        rows=[dataclasses.replace(row, line=lines[row.line - 1]) for row in examined.rows],
        source=name,
        records=[readable[row.line - 1][1] for row in examined.rows],
        clusters=torch.arange(len(examined.rows)),
    )
    return rows, faults


def _answer_column(
    readable: list[Record], columns: Columns, trained_format: str | None, name: str
) -> str | None:
    """Return the column in which answers are missing, by its name in the source; None if none are."""
    shapes: Shapes = Counter(map(tuple, readable))
    resolved = columns.resolve(shapes, name)
    present = {column for shape in resolved.shapes for column in shape}
    theirs = {ours: column for column, ours in resolved.names.items()}
    for needs in _required(trained_format):
        *questions, answers = needs
        if not questions or not all(present.intersection(names) for names in questions):
            continue
        there = next((c for c in answers if c in present), None)
        return answers[0] if there is None else theirs.get(there, there)
    return None


def _required(trained_format: str | None) -> Iterator[tuple[tuple[str, ...], ...]]:
    names = _QUESTIONS if trained_format is None else (trained_format,)
    return (f.needs for f in FORMATS if f.name in names and f.name not in ("kto", "preference"))


def _completed(record: Record, answer: str | None) -> Record:
    """Return a record with a placeholder in place of a missing answer."""
    if answer is None or not is_missing(record.get(answer)):
        return record
    return {**record, answer: PLACEHOLDER}
