"""Rows of JSON: one object a line, a list, objects in sequence, a table by columns."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from strop.core.errors import DataError
from strop.data.formats.record import (
    NumberedRecord,
    Record,
    WrittenFloat,
    as_record,
    object_of,
    type_in_words,
)
from strop.data.reading.files import LONGEST_LINE, UTF8, lines_of, not_utf8, opened, whole
from strop.data.rows import Fault

_SPACE = re.compile(r"\s*")


def json_rows(path: Path, suffix: str, encoding: str = UTF8) -> Iterator[NumberedRecord]:
    """Yield the rows of a JSON or JSONL file, in an encoding, with their lines.

    Raises:
        DataError: it is JSON as a whole and not valid, or no list of rows.
    """
    per_line = _row_per_line(path, suffix, encoding)
    yield from _of_lines(path, encoding) if per_line else _of_whole(path, encoding)


def _of_lines(path: Path, encoding: str) -> Iterator[NumberedRecord]:
    for number, line in lines_of(path, encoding):
        if isinstance(line, Fault):
            yield number, line
        elif not line.isspace():
            item = _parsed(line, number)
            del line
            yield number, item
            del item  # the row that it becomes has its texts


_DECODER = json.JSONDecoder(object_pairs_hook=object_of, parse_float=WrittenFloat)


def _record(value: Any, number: int) -> Record | Fault:
    """Return a record in which numbers keep their text in cells only, not inside lists or objects."""
    if isinstance(value, dict):
        return {k: _plain(v) if isinstance(v, (list, dict)) else v for k, v in value.items()}
    return as_record(value, number)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return float(value) if isinstance(value, WrittenFloat) else value


def _parsed(line: str, number: int) -> Record | Fault:
    try:
        return _record(_DECODER.decode(line), number)
    except json.JSONDecodeError as e:
        return Fault(number, f"not valid JSON: {e.msg} at column {e.colno}", "bad_json")
    except RecursionError:
        return Fault(number, "not usable JSON: nested too deeply", "bad_json")
    except ValueError as e:  # a key twice, or a number with more digits than Python converts
        return Fault(number, f"not usable JSON: {e}", "bad_json")


def _row_per_line(path: Path, suffix: str, encoding: str) -> bool:
    """Return whether a file has a row on each line, rather than being JSON as a whole.

    A `.json` may be JSONL, and a `.jsonl` one list or objects over several lines: the first line
    that is not blank decides.
    """
    signed = "utf-8-sig" if encoding == UTF8 else encoding
    with (
        opened(path) as file,
        io.TextIOWrapper(file, signed, "surrogateescape", newline="\n") as lines,
    ):
        text = ""
        while not text:
            line = lines.readline(LONGEST_LINE)
            if not line:
                return suffix != ".json"
            text = line.removeprefix("\ufeff").strip()
        more = not (rest := lines.read(4096)).isspace() and rest != ""
    del line
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return suffix != ".json" and text not in ("[", "{") and (more or text[:1] != "[")
    if suffix == ".json":
        return isinstance(value, dict) and more
    return more or not isinstance(value, list)


def _of_whole(path: Path, encoding: str) -> Iterator[NumberedRecord]:
    try:
        values = list(_documents(whole(path).decode(encoding).removeprefix("\ufeff")))
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is {not_utf8(e)}") from e
    except json.JSONDecodeError as e:
        where = f"line {e.lineno}, column {e.colno}"
        raise DataError(f"{path} is not valid JSON: {e.msg} at {where}") from e
    except RecursionError as e:
        raise DataError(f"{path} is not usable JSON: nested too deeply") from e
    except ValueError as e:  # a key twice, or a number with more digits than Python converts
        raise DataError(f"{path} is not usable JSON: {e}") from e
    value = _unwrapped(values[0]) if len(values) == 1 else values
    if not isinstance(value, list):
        raise DataError(f"{path} holds {type_in_words(value)}, not a list of rows")
    for number, item in enumerate(value, 1):
        yield number, _record(item, number)


def _documents(text: str) -> Iterator[Any]:
    """Yield the JSON values of a text, in sequence without commas."""
    at, end = 0, len(text.rstrip())
    while True:
        value, at = _DECODER.raw_decode(text, _behind_space(text, at))
        yield value
        if at >= end:
            return


def _unwrapped(value: Any) -> Any:
    """Return the rows of a JSON value: a list of them, one row, a table by columns, `{"data": []}`."""
    if not isinstance(value, dict):
        return value
    tables = [v for v in value.values() if isinstance(v, dict) and "".join(v).isdigit()]
    if tables and len(tables) == len(value):  # as pandas writes a table
        return _by_columns({k: list(v.values()) for k, v in value.items()}) or [value]
    columns = [v for v in value.values() if isinstance(v, list)]
    if any(_is_message(v) for column in columns for v in column[:1]):
        return [value]
    if len(columns) == len(value) > 1 and (rows := _by_columns(value)):
        return rows
    lists = [v for v in columns if v and isinstance(v[0], dict)]
    return lists[0] if len(lists) == len(columns) == 1 else [value]


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and not {"role", "from"}.isdisjoint(value)


def _by_columns(table: dict[str, list[Any]]) -> list[Record]:
    """Return the rows of a table by columns; none if its columns differ in length."""
    if len({len(column) for column in table.values()}) != 1:
        return []
    return [dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True)]


def _behind_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at
