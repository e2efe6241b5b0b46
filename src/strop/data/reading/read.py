"""Reads a source into rows, or says everything that is wrong with it at once."""

import dataclasses
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from strop.core.errors import DataError
from strop.data.reading.columns import Columns, Shapes, names_in
from strop.data.reading.layout import Layout, layout_of
from strop.data.reading.sources import records, source_name
from strop.data.rows import BrokenRowsError, Fault, Row, Rows

REMEDY = "Correct these rows or take them out; strop data check FILE --fix CLEAN.jsonl does."


def read(
    source: Any,
    *,
    mapping: Mapping[str, str] | None = None,
    ignore_columns: Iterable[str] = (),
    instruction: str | None = None,
) -> Rows:
    """Read every row of `source`; the format is told by the columns of all rows together.

    Args:
        source: the path of a JSONL, JSON, CSV, TSV or Parquet file, a `datasets.Dataset`, a pandas
            or polars DataFrame, a pyarrow Table, or a list of dictionaries.
        mapping: for columns that bear other names, their name to the one strop knows, as
            `{"question": "prompt", "reply": "completion"}`.
        ignore_columns: columns to read the source without.
        instruction: what stands before each text of a classification, in place of a sentence that
            names the labels; empty for nothing.

    Returns:
        The rows in their order. Nothing is left out.

    Raises:
        DataError: the source cannot be read, or some rows cannot be used; the text lists every one
            of them with its line number and the reason.
    """
    return read_by(source, Columns(mapping or {}, names_in(ignore_columns), instruction))


def read_by(source: Any, columns: Columns) -> Rows:
    """Return `read` of a source by what is known of its columns."""
    found = examine(source, columns)
    if found.faults:
        raise BrokenRowsError(
            source_name(source),
            found.faults,
            found.total,
            REMEDY,
        )
    layout = found.layout
    return Rows(
        found.rows,
        layout.format.name,
        source_name(source),
        instruction=layout.instruction,
        notes=tuple(layout.notes),
        unread=layout.unread,
    )


def stream(source: Any, *, mapping: Mapping[str, str] | None = None) -> Iterator[Row]:
    """Yield the rows of a source that may be larger than memory.

    The source is gone through several times: to tell its format, to find every fault, and to yield.

    Args:
        source: what `read` takes, if it can be gone through more than once.
        mapping: as for `read`.

    Raises:
        DataError: as `read` does, before the first row.
    """
    name = source_name(source)
    if isinstance(source, Iterator):
        raise DataError(f"{name} can be gone through only once; give strop.data.read a list of it")
    shapes: Shapes = Counter(
        ("",) if isinstance(item, Fault) else tuple(item) for _, item in records(source)
    )
    total = shapes.total()
    del shapes[("",)]
    if not total:
        raise DataError(f"{name} holds no rows")
    if not shapes:
        broken = [item for _, item in records(source) if isinstance(item, Fault)]
        raise BrokenRowsError(name, broken, total, "No row could be read.")
    layout = layout_of(shapes, lambda: records(source), Columns(mapping or {}), name)
    made = (layout.row(line, item) for line, item in records(source))
    if faults := [row for row in made if isinstance(row, Fault)]:
        raise BrokenRowsError(name, faults, total, "Correct these rows or take them out.")
    again = (layout.row(line, item) for line, item in records(source))
    return (row for row in again if isinstance(row, Row))


@dataclasses.dataclass(slots=True)
class Examined:
    """The rows of a source that can be used, the faults of the others, and how it was read."""

    rows: list[Row]
    faults: list[Fault]
    layout: Layout
    total: int


def examine(source: Any, columns: Columns | None = None) -> Examined:
    """Return the usable rows, the faults of the others, the format, and the number of rows.

    Args:
        source: what `read` takes.
        columns: what is known of its columns.

    Raises:
        DataError: the source cannot be read at all, or its columns are not known.
    """
    found = deque(records(source))
    total = len(found)
    name = source_name(source)
    if not found:
        raise DataError(f"{name} holds no rows")
    shapes: Shapes = Counter(tuple(item) for _, item in found if not isinstance(item, Fault))
    if not shapes:
        broken = [item for _, item in found if isinstance(item, Fault)]
        raise BrokenRowsError(name, broken, total, "No row could be read.")
    layout = layout_of(shapes, lambda: found, columns or Columns(), name)
    rows: list[Row] = []
    faults: list[Fault] = []
    while found:  # a record is let go when it became a row
        made = layout.row(*found.popleft())
        if isinstance(made, Fault):
            faults.append(made)
        else:
            rows.append(made)
    return Examined(rows, faults, layout, total)
