"""Layout of a source: its format, the names of its columns, and what is not read of it."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from strop.core.errors import DataError
from strop.data.formats import classification
from strop.data.formats.cells import FaultyRecordError
from strop.data.formats.choice_columns import ChoiceColumns, choice_columns
from strop.data.formats.known import Format, format_of
from strop.data.formats.record import Record, Shapes
from strop.data.formats.survey import Survey
from strop.data.reading.columns import Columns, ResolvedColumns
from strop.data.reading.unread import unread_columns
from strop.data.rows import Fault, Row


@dataclasses.dataclass(slots=True)
class Layout:
    """Layout of a source, by which its records become rows."""

    format: Format
    names: ResolvedColumns
    instruction: str | None
    """Text before each text, where the format takes an instruction."""
    columns: Counter[str]
    """Number of records with each column, by its new name."""
    choices: ChoiceColumns | None = None
    """Columns that hold a choice each."""
    unread: dict[str, str] = dataclasses.field(default_factory=dict)
    """Columns with content that the format does not read, each with one of its values."""
    unused: list[str] = dataclasses.field(default_factory=list)
    """Other columns that it does not read."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """Sentences about how the columns are understood."""

    decoded: list[str] = dataclasses.field(default_factory=list)
    """Sentences about files that are not read as they stand, such as those in another encoding."""

    def row(self, line: int, item: Record | Fault) -> Row | Fault:
        """Return the row of a record, or its fault."""
        if isinstance(item, Fault):
            return item
        try:
            record = self.renamed(item)
        except FaultyRecordError as e:
            return Fault(line, str(e), e.kind)
        return self.format.row(line, record, self.instruction)

    def renamed(self, item: Record) -> Record:
        """Return a record with the columns that formats know."""
        record = self.names.record(item)
        return record if self.choices is None else self.choices.arranged(record)


def layout_of(shapes: Shapes, items: Any, columns: Columns, name: str) -> Layout:
    """Return the layout of a source.

    Args:
        shapes: number of records with each tuple of columns.
        items: returns the numbered records at each call.
        columns: names and instruction that are given.
        name: of the source.

    Raises:
        DataError: the columns are of no known format, or do not fit what is given.
    """
    names = columns.resolve(shapes, name)
    theirs = {ours: column for column, ours in names.names.items()}

    def values(column: str) -> Iterator[Any]:
        key = theirs.get(column, column)
        return (i[key] for _, i in items() if not isinstance(i, Fault) and key in i)

    total: Counter[str] = Counter()
    for shape, count in names.shapes.items():
        total.update(dict.fromkeys(shape, count))
    choices = choice_columns(total, values)
    arranged = names.shapes if choices is None else choices.shapes(names.shapes)
    survey = Survey(values)
    best, needs = format_of(arranged, survey, name)
    layout = Layout(best, names, _instruction(best, needs, columns, survey, name), total, choices)
    unread = unread_columns(arranged, best, survey, _rows(layout, items))
    layout.unread = {str(c): next(iter(survey[c].distinct)) for c in unread.content}
    layout.unused = unread.others
    layout.notes = [
        *_notes(layout, needs, survey),
        *(_category(best, c, next(iter(survey[c].distinct))) for c in unread.categories),
    ]
    return layout


def _rows(layout: Layout, items: Any) -> Iterator[tuple[Record, Row]]:
    """Yield the records that become rows, with their rows."""
    for line, item in items():
        if isinstance(item, Fault):
            continue
        row = layout.row(line, item)
        if isinstance(row, Row):
            yield layout.renamed(item), row


def _category(layout: Format, column: str, value: str) -> str:
    known = "system" if layout.name in _NESTED or layout.needs[0][0] == "messages" else "context"
    return (
        f"{column} ({value!r}) is taken for a category of the row and is not read; "
        f"--map {column}={known} reads it"
    )


def _instruction(
    layout: Format, needs: Sequence[str], columns: Columns, survey: Survey, name: str
) -> str | None:
    """Return the text before each text, if the rows are texts with labels."""
    given, trained = columns.instruction, columns.trained
    if layout.name != "classification":
        if given is not None:
            raise DataError(
                f"--instruction {given!r} stands before texts with labels, and {name} is read as "
                f"{layout.name}; leave it out, or write it into the data"
            )
        return None
    if given is not None:
        return given
    usual = classification.instruction(survey, needs)
    if not trained or usual in trained:
        return usual
    if len(trained) > 1:
        raise DataError(
            f"the run was trained with {len(trained)} instructions; name the one that {name} is "
            f"for with --instruction: {'; '.join(trained)}"
        )
    return trained[0]


def _notes(layout: Layout, columns: Sequence[str], survey: Survey) -> list[str]:
    notes = []
    name = layout.format.name
    if layout.choices:
        notes.append(
            f"{', '.join(layout.choices.columns)} are the choices of the question"
            + f", counted from {layout.choices.first} in {columns[-1]}" * layout.choices.numbered
        )
    if layout.instruction:
        notes.append(
            f"each text stands behind {layout.instruction!r}, and {columns[-1]} is its answer; "
            "--instruction takes another sentence, --map text=prompt,label=completion leaves it out"
        )
    texts = columns[: len(columns) - (name == "kto")]  # its last is the mark
    if layout.choices:
        texts = texts[:-1]
    for column in texts if name not in _NESTED else ():
        if count := survey[column].numbers:
            first = next(iter(survey[column].distinct))
            notes.append(
                f"{column} is a number or a truth value in {count:,} rows: "
                + (
                    "it is taken for the letter of that choice, counted from 0, or for the choice"
                    if name == "multiple_choice"
                    else f"its text is taken as written, such as {first}"
                )
            )
    return notes


_NESTED = ("messages", "conversations")
"""Formats whose columns hold no texts."""
