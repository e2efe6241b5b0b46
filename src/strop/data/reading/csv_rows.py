"""Rows of CSV and TSV, as programs and Excel write them."""

import contextlib
import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from strop.core.errors import DataError
from strop.data.formats.record import NumberedRecord, Record
from strop.data.reading.files import LONGEST_LINE, UTF8, lines_of
from strop.data.rows import Fault

_ROW_END = re.compile(r"(?<=\r)(?!\n)")
_SEPARATOR = re.compile(r"sep=(.)\s*", re.IGNORECASE)
"""First line that names the delimiter to Excel."""


def csv_rows(path: Path, delimiter: str | None, encoding: str = UTF8) -> Iterator[NumberedRecord]:
    """Yield the rows of a file with their lines; rows of empty cells are skipped.

    Args:
        path: a file whose first line names the columns.
        delimiter: between cells; None infers it from the first line.
        encoding: of the file.

    Raises:
        DataError: the first line is not readable, or names a column twice.
    """
    broken: list[Fault] = []
    with _long_fields():
        lines = _texts(path, encoding, broken)
        head = next(lines, "")
        if broken:
            raise DataError(f"{path}: line 1: {broken[0].reason}")
        before = 0
        if named := _SEPARATOR.fullmatch(head):
            delimiter, head, before = named[1], next(lines, ""), 1
        delimiter = delimiter or max(",;\t|", key=head.count)
        reader = csv.reader(_chained(head, lines), delimiter=delimiter, strict=True)
        try:
            columns = column_names(next(reader, []), path, 1 + before)
        except csv.Error as e:
            raise DataError(f"{path}: line {1 + before}: not valid CSV: {e}") from e
        for line, row in _of_cells(reader, columns):
            if broken:  # bytes of this row are not UTF-8
                yield from ((fault.line, fault) for fault in broken)
                broken.clear()
            elif isinstance(row, Fault):
                yield line + before, Fault(line + before, row.reason, row.kind)
            else:
                yield line + before, row


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(LONGEST_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _texts(path: Path, encoding: str, broken: list[Fault]) -> Iterator[str]:
    for _, line in lines_of(path, encoding):
        if isinstance(line, Fault):
            broken.append(line)
            yield "\ufffd\n"
        elif "\r" in line[:-2]:  # a line may end in CR alone; inside quotes the reader joins again
            yield from _ROW_END.split(line)
        else:
            yield line


def _chained(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def column_names(cells: list[str], path: Path, line: int) -> list[str]:
    """Return the names of the columns; those without a name are numbered."""
    names = [name.strip() for name in cells]
    twice = sorted(name for name, count in Counter(names).items() if count > 1 and name)
    if twice:
        more = f" and {len(twice) - 8} more" if len(twice) > 8 else ""
        raise DataError(
            f"{path}: the column {', '.join(twice[:8])}{more} occurs more than once in line {line}"
        )
    return [name or f"column {place}" for place, name in enumerate(names, 1)]


def _of_cells(reader: Iterator[list[str]], columns: list[str]) -> Iterator[NumberedRecord]:
    while True:
        line = reader.line_num + 1  # type: ignore[attr-defined]
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as e:
            reason = f"not valid CSV: {e}"
            if "end of data" in str(e):
                last = reader.line_num  # type: ignore[attr-defined]
                reason = f"not valid CSV: the quote that opens here is not closed up to line {last}"
            yield line, Fault(line, reason, "bad_csv")
            continue
        if any(cells):
            yield line, _record(columns, cells, line)


def _record(columns: list[str], cells: list[str], line: int) -> Record | Fault:
    if len(cells) != len(columns):
        reason = f"has {len(cells)} fields where the first line names {len(columns)} columns"
        return Fault(line, reason, "bad_csv")
    return dict(zip(columns, cells, strict=True))
