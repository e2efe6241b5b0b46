"""Reading of a source into rows, with all its faults at once."""

import dataclasses
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from strop.core.errors import DataError
from strop.data.formats.record import Shapes
from strop.data.reading.columns import Columns, names_in
from strop.data.reading.layout import Layout, layout_of
from strop.data.reading.sources import records
from strop.data.rows import BrokenRowsError, Fault, Row, Rows

_REMEDY = "Correct these rows or take them out; strop data check FILE --fix CLEAN.jsonl does."


def read(
    source: Any,
    *,
    mapping: Mapping[str, str] | None = None,
    ignore_columns: Iterable[str] = (),
    instruction: str | None = None,
) -> Rows:
    """Read every row of `source`; the columns of all rows together decide the format.

    Args:
        source: the path of a JSONL, JSON, CSV, TSV or Parquet file, a `datasets.Dataset`, a pandas
            or polars DataFrame, a pyarrow Table, or a list of dictionaries.
        mapping: names in the source and the names that strop knows, as
            `{"question": "prompt", "reply": "completion"}`.
        ignore_columns: columns to ignore.
        instruction: text before each text of a classification, in place of a sentence that names
            the labels; empty for nothing.

    Returns:
        The rows in their order. Nothing is left out.

    Raises:
        DataError: the source cannot be read, or some rows cannot be used; the text lists every one
            of them with its line number and the reason.
    """
    return read_by(source, Columns(mapping or {}, names_in(ignore_columns), instruction))


def read_by(source: Any, columns: Columns) -> Rows:
    """Read every row of `source`, its columns as given; see `read`."""
    examined = examine_all(source, columns)
    layout = examined.layout
    return Rows(
        examined.rows,
        layout.format.name,
        examined.name,
        instruction=layout.instruction,
        notes=(*layout.decoded, *layout.notes),
        unread=layout.unread,
    )


def stream(source: Any, *, mapping: Mapping[str, str] | None = None) -> Iterator[Row]:
    """Yield the rows of a source that may be larger than memory.

    The source is read several times: for its format, for its faults, and for the rows.

    Args:
        source: what `read` takes, if it can be iterated more than once.
        mapping: as for `read`.

    Raises:
        DataError: as `read` does, before the first row.
    """
    return iter(streamed(source, Columns(mapping or {})))


@dataclasses.dataclass(frozen=True, slots=True)
class Streamed:
    """A source that is gone through anew at each iteration, one row in memory at a time."""

    source: Any
    name: str
    layout: Layout
    encoding: str | None

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows; all are usable."""
        for line, item in records(self.source, self.encoding):
            row = self.layout.row(line, item)
            if isinstance(row, Row):
                yield row


def streamed(source: Any, columns: Columns) -> Streamed:
    """Return a source whose rows are all usable; see `stream`.

    Raises:
        DataError: it can be gone through only once, or `read` would refuse it.
    """
    name = source_name(source)
    if isinstance(source, Iterator):
        raise DataError(f"{name} can be gone through only once; give strop.data.read a list of it")
    decoded: list[str] = []
    shapes: Shapes = Counter(
        ("",) if isinstance(item, Fault) else tuple(item)
        for _, item in records(source, columns.encoding, decoded.append)
    )
    total = shapes.total()
    del shapes[("",)]
    if not total:
        raise DataError(f"{name} holds no rows")
    if not shapes:
        broken = [item for _, item in records(source) if isinstance(item, Fault)]
        raise BrokenRowsError(name, broken, total, "No row could be read.")
    layout = layout_of(shapes, lambda: records(source, columns.encoding), columns, name)
    layout.decoded = decoded
    rows = (layout.row(line, item) for line, item in records(source, columns.encoding))
    if faults := [row for row in rows if isinstance(row, Fault)]:
        raise BrokenRowsError(name, faults, total, _REMEDY)
    return Streamed(source, name, layout, columns.encoding)


@dataclasses.dataclass(slots=True)
class Examined:
    """Usable rows of a source, and the faults of the others."""

    name: str
    """Name of the source."""
    rows: list[Row]
    faults: list[Fault]
    layout: Layout
    total: int
    """Number of rows, faulty ones included."""


def examine(source: Any, columns: Columns | None = None) -> Examined:
    """Return the usable rows, the faults of the others, and the layout.

    Args:
        source: what `read` takes.
        columns: names and instruction that are given.

    Raises:
        DataError: the source cannot be read at all, or its columns are not known.
    """
    columns = columns or Columns()
    decoded: list[str] = []
    numbered = deque(records(source, columns.encoding, decoded.append))
    total = len(numbered)
    name = source_name(source)
    if not numbered:
        raise DataError(f"{name} holds no rows")
    shapes: Shapes = Counter(tuple(item) for _, item in numbered if not isinstance(item, Fault))
    if not shapes:
        broken = [item for _, item in numbered if isinstance(item, Fault)]
        raise BrokenRowsError(name, broken, total, "No row could be read.")
    layout = layout_of(shapes, lambda: numbered, columns, name)
    layout.decoded = decoded
    rows: list[Row] = []
    faults: list[Fault] = []
    while numbered:  # frees each record once it is a row
        row = layout.row(*numbered.popleft())
        if isinstance(row, Fault):
            faults.append(row)
        else:
            rows.append(row)
    return Examined(name, rows, faults, layout, total)


def examine_all(source: Any, columns: Columns | None = None) -> Examined:
    """Return `examine` of a source of which every row can be used.

    Raises:
        DataError: the source cannot be read, or some rows cannot be used.
    """
    examined = examine(source, columns)
    if examined.faults:
        raise BrokenRowsError(examined.name, examined.faults, examined.total, _REMEDY)
    return examined


def source_name(source: Any) -> str:
    """Return the name of `source` in texts."""
    return str(source) if isinstance(source, (str, Path)) else f"the {type(source).__name__}"
