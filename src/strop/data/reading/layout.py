"""How the records of one source become rows: its format, and what is known of its columns."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from strop.core.errors import DataError
from strop.data.choices import ChoiceColumns, choice_columns
from strop.data.formats import classification
from strop.data.formats.cells import FaultyRecordError
from strop.data.formats.known import FORMATS, Format, row_of
from strop.data.formats.messages import SPEAKERS
from strop.data.formats.record import Record
from strop.data.formats.survey import Survey
from strop.data.reading.columns import Columns, Shapes, left_out, named_columns, renaming, spoken
from strop.data.rows import Fault, Row
from strop.data.unread import unread_columns


@dataclasses.dataclass(slots=True)
class Layout:
    """How the records of one source become rows."""

    format: Format
    names: Mapping[str, str]
    """What columns are renamed to."""
    ignored: set[str]
    used: set[str]
    """Columns that were named, to map or to ignore, and are there."""
    instruction: str | None
    """What stands before each text, where the format takes an instruction."""
    columns: Counter[str]
    """How many records have each column, by its new name."""
    unread: dict[str, str]
    """Columns with content that the format does not read, each with one of its values."""
    unused: list[str]
    """Other columns that it does not read."""
    notes: list[str]
    """What a reader should know of how the columns are understood."""
    choices: ChoiceColumns | None = None
    """Choices that stand in columns of their own."""

    def row(self, line: int, item: Record | Fault) -> Row | Fault:
        """Return the row that a record is, or why it is none."""
        if isinstance(item, Fault):
            return item
        try:
            record = self.renamed(item)
        except FaultyRecordError as e:
            return Fault(line, str(e), e.kind)
        its = self.format.columns(record)
        if its is None:
            return Fault(line, _lacks(self.format, record), "missing_column")
        return row_of(line, record, self.format, its, self.instruction)

    def renamed(self, item: Record) -> Record:
        """Return a record with the columns that formats know."""
        record = item
        if self.names or self.ignored:
            record = {self.names.get(c, c): v for c, v in item.items() if c not in self.ignored}
        return record if self.choices is None else self.choices.arranged(record)


def layout_of(shapes: Shapes, items: Any, columns: Columns, name: str) -> Layout:
    """Return how the records of a source are read.

    Args:
        shapes: how many records have which columns.
        items: gives them, as often as it is called.
        columns: what is known of the columns.
        name: of the source.
    """
    ignored = left_out(shapes, columns, name)
    kept: Shapes = Counter()
    for shape, count in shapes.items():
        kept[tuple(c for c in shape if c not in ignored)] += count
    names = renaming(kept, columns, name)
    theirs = {ours: column for column, ours in names.items()}

    def values(column: str) -> Iterator[Any]:
        key = theirs.get(column, column)
        return (i[key] for _, i in items() if not isinstance(i, Fault) and key in i)

    survey = Survey(values)
    total: Counter[str] = Counter()
    renamed: Shapes = Counter()
    for shape, count in kept.items():
        total.update(dict.fromkeys((names.get(c, c) for c in shape), count))
    choices = choice_columns(total, values)
    for shape, count in kept.items():
        new = tuple(names.get(c, c) for c in shape)
        renamed[choices.shape(new) if choices else new] += count
    best = _best(renamed, survey, name)
    needs = _commonest(best, renamed)
    told = _instruction(best, needs, columns, survey, name)
    used = named_columns(shapes, columns)
    layout = Layout(best, names, ignored, used, told, total, {}, [], [], choices)
    unread = unread_columns(renamed, best, survey, _rows(layout, items))
    layout.unread = {str(c): next(iter(survey[c].distinct)) for c in unread.content}
    layout.unused = unread.others
    layout.notes = [
        *_notes(layout, needs, survey),
        *(_category(best, c, next(iter(survey[c].distinct))) for c in unread.categories),
    ]
    return layout


def _rows(layout: Layout, items: Any) -> Iterator[tuple[Record, Row]]:
    """Yield the records that become rows, with the rows."""
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
    """Return what stands before each text, if the rows are texts with labels."""
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
    said = []
    name = layout.format.name
    if layout.choices:
        said.append(
            f"{', '.join(layout.choices.columns)} are the choices of the question"
            + f", counted from {layout.choices.first} in {columns[-1]}" * layout.choices.numbered
        )
    if layout.instruction:
        said.append(
            f"each text stands behind {layout.instruction!r}, and {columns[-1]} is its answer; "
            "--instruction takes another sentence, --map text=prompt,label=completion leaves it out"
        )
    texts = columns[: len(columns) - (name == "kto")]  # its last is the mark
    if layout.choices:
        texts = texts[:-1]
    for column in texts if name not in _NESTED else ():
        if count := survey[column].numbers:
            first = next(iter(survey[column].distinct))
            said.append(
                f"{column} is a number or a truth value in {count:,} rows: "
                + (
                    "it is taken for the letter of that choice, counted from 0, or for the choice"
                    if name == "multiple_choice"
                    else f"its text is taken as written, such as {first}"
                )
            )
    return said


_NESTED = ("messages", "conversations")
"""Formats whose columns hold no texts."""


def _commonest(layout: Format, shapes: Shapes) -> list[str]:
    """Return the columns that most records of a format have for its needs."""
    found = ((count, layout.columns(shape)) for shape, count in shapes.items())
    return max(((n, c) for n, c in found if c), default=(0, []))[1]


def _best(shapes: Shapes, survey: Survey, name: str) -> Format:
    def fits(layout: Format) -> int:
        if layout.suits is not None:
            columns = _commonest(layout, shapes)
            if not columns or not layout.suits(survey, columns):
                return 0
        return sum(count for shape, count in shapes.items() if layout.columns(shape) is not None)

    best = max(FORMATS, key=fits)
    if not fits(best):
        columns = {column for shape in shapes for column in shape}
        if not columns:
            raise DataError(f"{name} has rows without anything in them: they have no columns")
        known = "; ".join(dict.fromkeys(layout.described() for layout in FORMATS))
        raise DataError(
            f"{name} has the columns {spoken(columns)}, which are no known format. Known are: "
            f"{known}. Rename the columns, or map them to these names, as in "
            "--map ask=prompt,reply=completion"
        )
    if best.name == "text" and _is_turns(shapes, survey):
        raise DataError(
            f"{name} has one message a row (columns role and content or text), and nothing says "
            "which belong together; put the messages of each conversation into one row, as "
            '{"messages": [{"role": ..., "content": ...}, ...]}, or --ignore-columns role if each '
            "is a text of its own"
        )
    return best


def _is_turns(shapes: Shapes, survey: Survey) -> bool:
    """Whether each row is a message of a conversation, by a column with the roles of speakers."""
    beside = any({"role", text} <= set(shape) for shape in shapes for text in ("content", "text"))
    return beside and all(role.lower() in SPEAKERS for role in survey["role"].distinct)


def _lacks(layout: Format, record: Record) -> str:
    missing = [
        " or ".join(names) for names in layout.needs if not any(name in record for name in names)
    ]
    has = spoken(record) if record else "none"
    return f"has no column {', '.join(missing)}, which the other rows have (its columns: {has})"
