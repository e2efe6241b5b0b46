"""Rows of spreadsheets, as Excel saves them."""

import datetime
import importlib.util
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from strop.core.errors import DataError, MissingPackageError
from strop.data.formats.record import NumberedRecord
from strop.data.reading.csv_rows import column_names
from strop.data.reading.files import refuse_bomb, whole

SHEET_SUFFIXES = (".xlsx",)
_LARGEST_WHOLE_NUMBER = 2**53


def sheet_rows(path: Path, note: Callable[[str], None]) -> Iterator[NumberedRecord]:
    """Yield the rows of the first sheet with anything in it; rows of empty cells are skipped.

    Args:
        path: a file whose first row names the columns.
        note: called with a sentence if there are several sheets.

    Raises:
        DataError: it is not readable, or names a column twice.
        MissingPackageError: python-calamine is not installed.
    """
    if importlib.util.find_spec("python_calamine") is None:
        raise MissingPackageError(
            'reading .xlsx needs python-calamine; run: pip install "strop[data]"'
        )
    import python_calamine

    content = whole(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        refuse_bomb(path, len(content), unpacked)
        book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content))
        filled = []
        for name in book.sheet_names:
            sheet = book.get_sheet_by_name(name)
            if sheet.start is not None:
                filled.append((name, sheet))
        if not filled:
            return
        name, sheet = filled[0]
        rows = sheet.iter_rows()
    except python_calamine.PasswordError as e:
        raise DataError(f"{path} is locked with a password; save it without one") from e
    except (python_calamine.CalamineError, zipfile.BadZipFile, ValueError, OSError) as e:
        raise DataError(f"{path} is not a readable Excel file: {e}") from e
    if len(filled) > 1:
        others = ", ".join(other for other, _ in filled[1:9])
        note(f"of {path} the sheet {name} is read, and not {others}")
    yield from _of_cells(rows, path)


def _of_cells(rows: Any, path: Path) -> Iterator[NumberedRecord]:
    columns: list[str] | None = None
    for line, row in enumerate(rows, 1):
        cells = [_plain(cell) for cell in row]
        if all(cell in ("", None) for cell in cells):
            continue
        if columns is None:
            columns = column_names([str(cell) for cell in cells], path, line)
        else:
            yield line, dict(zip(columns, cells, strict=True))


def _plain(cell: Any) -> Any:
    """Return a cell as a text, a number or a truth value; Excel has no whole numbers."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < _LARGEST_WHOLE_NUMBER:
        return int(cell)
    if isinstance(cell, (datetime.date, datetime.time)):
        return cell.isoformat()
    return str(cell) if isinstance(cell, datetime.timedelta) else cell
