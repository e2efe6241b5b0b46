"""Reads records, one dictionary per row, out of files, `datasets` objects and lists."""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from strop.core.errors import DataError
from strop.data.opening import (
    LONGEST_LINE,
    TEXT_SUFFIXES,
    kind_of,
    lines_of,
    not_utf8,
    opened,
    text_of,
    whole,
)
from strop.data.rows import Fault

Record = dict[str, Any]
Found = tuple[int, Record | Fault]
"""A line number, and the record there or why there is none."""

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
HUB = "hf:"
"""How a source on the hub begins: `hf:owner/name` or `hf:owner/name:split`."""


def records(source: Any) -> Iterator[Found]:
    """Yield each row of `source` with its line number.

    Args:
        source: the path of a JSONL, JSON, CSV, TSV or Parquet file, plain or gzip; of a text,
            Markdown, HTML or PDF file or a folder of such; of a folder written by `datasets`;
            `hf:owner/name:split` for a data set to fetch from the hub; a `datasets` object; or an
            iterable of dictionaries.

    Raises:
        DataError: the source as a whole cannot be read.
    """
    if isinstance(source, str) and source.startswith(HUB):
        yield from _of_hub(source)
    elif isinstance(source, (str, Path)):
        yield from _of_path(Path(source))
    elif _is_datasets(source):
        yield from _of_dataset(source)
    elif isinstance(source, Iterable) and not isinstance(source, (bytes, dict)):
        for number, item in enumerate(source, 1):
            yield number, _as_record(item, number)
    else:
        raise DataError(
            f"a {type(source).__name__} is not data; give a path, a datasets.Dataset or a list of "
            "dictionaries"
        )


def source_name(source: Any) -> str:
    """Return how texts call `source`."""
    return str(source) if isinstance(source, (str, Path)) else f"the {type(source).__name__}"


def _as_record(item: Any, number: int) -> Record | Fault:
    if isinstance(item, dict):
        return item
    return Fault(number, f"is {spoken_type(item)}, not an object with columns", "bad_type")


def spoken_type(value: Any) -> str:
    """Return what kind of value this is, in words."""
    names: dict[type, str] = {
        str: "a text",
        int: "a number",
        float: "a number",
        bool: "a truth value",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def _is_datasets(source: Any) -> bool:
    return type(source).__module__.split(".")[0] == "datasets" and "datasets" in sys.modules


def _of_dataset(source: Any) -> Iterator[Found]:
    if isinstance(source, dict):
        splits = ", ".join(source)
        raise DataError(f"the data set has the splits {splits}; give one of them, as data['train']")
    yield from enumerate(source, 1)


def _of_hub(source: str) -> Iterator[Found]:
    import datasets

    name, _, part = source.removeprefix(HUB).partition(":")
    try:
        found = datasets.load_dataset(name, split=part or None)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as e:
        raise DataError(f"{source} cannot be fetched from the hub: {e}") from e
    yield from _of_dataset(found)


def _of_path(path: Path) -> Iterator[Found]:
    if not path.exists():
        raise DataError(f"there is no file {path}{_nearby(path)}")
    if path.is_dir():
        yield from _of_folder(path)
        return
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)")
    kind = kind_of(path)
    if kind == ".parquet":
        yield from _of_parquet(path)
    elif kind in (".csv", ".tsv"):
        yield from _of_csv(path, "\t" if kind == ".tsv" else None)
    elif kind in (".jsonl", ".ndjson"):
        yield from _of_jsonl(path)
    elif kind == ".json":
        yield from _of_jsonl(path) if _has_one_object_per_line(path) else _of_json(path)
    elif kind in TEXT_SUFFIXES:
        yield from _of_texts([path])
    else:
        known = ", ".join(f"*{s}" for s in (*SUFFIXES, *TEXT_SUFFIXES))
        named = f"files named *{kind}" if kind else "files without a suffix"
        raise DataError(f"{path}: {named} are not read; give one of {known}")


def _nearby(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist either"
    names = sorted(p.name for p in path.parent.iterdir() if kind_of(p) in SUFFIXES)
    if not names:
        return ""
    return f"; {path.parent} holds {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"


def _of_folder(path: Path) -> Iterator[Found]:
    if (path / "dataset_dict.json").is_file():
        parts = sorted(p.name for p in path.iterdir() if p.is_dir())
        raise DataError(f"{path} has the splits {', '.join(parts)}; give one, as {path / parts[0]}")
    if (path / "dataset_info.json").is_file():
        import datasets

        yield from _of_dataset(datasets.load_from_disk(str(path)))
        return
    texts = sorted(p for p in path.rglob("*") if p.is_file() and kind_of(p) in TEXT_SUFFIXES)
    tables = sorted(p.name for p in path.iterdir() if kind_of(p) in SUFFIXES)
    if tables:
        one = f"{path / tables[0]}"
        raise DataError(f"{path} is a folder with {', '.join(tables[:8])}; give one, as {one}")
    if not texts:
        kinds = ", ".join(f"*{s}" for s in (*SUFFIXES, *TEXT_SUFFIXES))
        raise DataError(f"{path} is a folder without data; looked for {kinds}")
    yield from _of_texts(texts)


def _of_texts(paths: list[Path]) -> Iterator[Found]:
    for number, path in enumerate(paths, 1):
        try:
            text = text_of(path)
        except DataError as e:
            yield number, Fault(number, str(e), "unreadable_file")
            continue
        if text.strip():
            yield number, {"text": text}
        else:
            yield number, Fault(number, f"{path} holds no text", "empty_text")


def _of_jsonl(path: Path) -> Iterator[Found]:
    with opened(path) as file:
        for number, line in lines_of(file, path):
            if isinstance(line, Fault):
                yield number, line
            elif line.strip():
                yield number, _parsed(line, number)


def _parsed(line: str, number: int) -> Record | Fault:
    try:
        return _as_record(json.loads(line), number)
    except json.JSONDecodeError as e:
        return Fault(number, f"not valid JSON: {e.msg} at column {e.colno}", "bad_json")
    except RecursionError:
        return Fault(number, "not usable JSON: nested too deeply", "bad_json")
    except ValueError as e:  # a number with more digits than Python converts
        return Fault(number, f"not usable JSON: {e}", "bad_json")


def _has_one_object_per_line(path: Path) -> bool:
    with opened(path) as file:
        first = b""
        while not first.strip():
            first = file.readline(LONGEST_LINE)
            if not first:
                return False
        more = bool(file.read(4096).strip())
    try:
        return isinstance(json.loads(first), dict) and more
    except (ValueError, RecursionError):
        return False


def _of_json(path: Path) -> Iterator[Found]:
    try:
        value = json.loads(whole(path).decode("utf-8-sig"))
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is {not_utf8(e)}") from e
    except json.JSONDecodeError as e:
        where = f"line {e.lineno}, column {e.colno}"
        raise DataError(f"{path} is not valid JSON: {e.msg} at {where}") from e
    except RecursionError as e:
        raise DataError(f"{path} is not usable JSON: nested too deeply") from e
    except ValueError as e:  # a number with more digits than Python converts
        raise DataError(f"{path} is not usable JSON: {e}") from e
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        columns = [v for v in value.values() if isinstance(v, list)]
        value = lists[0] if len(lists) == len(columns) == 1 else [value]
    if not isinstance(value, list):
        raise DataError(f"{path} holds {spoken_type(value)}, not a list of rows")
    for number, item in enumerate(value, 1):
        yield number, _as_record(item, number)


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(LONGEST_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _of_csv(path: Path, delimiter: str | None) -> Iterator[Found]:
    broken: list[Fault] = []

    def texts(file: IO[bytes]) -> Iterator[str]:
        for _, line in lines_of(file, path):
            if isinstance(line, Fault):
                broken.append(line)
            yield line if isinstance(line, str) else "\ufffd\n"

    with opened(path) as file, _long_fields():
        lines = texts(file)
        head = next(lines, "")
        if broken:
            raise DataError(f"{path}: line 1: {broken[0].reason}")
        delimiter = delimiter or max(",;\t|", key=head.count)
        reader = csv.reader(_chained(head, lines), delimiter=delimiter, strict=True)
        try:
            columns = [name.strip() for name in next(reader, [])]
            _check_columns(path, columns)
            begin = reader.line_num + 1
            for cells in reader:
                if broken:
                    yield from ((fault.line, fault) for fault in broken)
                    broken.clear()
                elif cells:
                    yield begin, _from_cells(columns, cells, begin)
                begin = reader.line_num + 1
        except csv.Error as e:
            raise DataError(f"{path}: line {reader.line_num}: not valid CSV: {e}") from e


def _chained(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _check_columns(path: Path, columns: list[str]) -> None:
    twice = sorted({c for c in columns if columns.count(c) > 1}) if len(columns) < 1000 else []
    if twice:
        raise DataError(f"{path}: the column {', '.join(twice)} occurs more than once in line 1")


def _from_cells(columns: list[str], cells: list[str], line: int) -> Record | Fault:
    if len(cells) != len(columns):
        return Fault(
            line, f"has {len(cells)} fields where line 1 names {len(columns)} columns", "bad_csv"
        )
    return dict(zip(columns, cells, strict=True))


def _of_parquet(path: Path) -> Iterator[Found]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        packed = path.suffix.lower() == ".gz"
        with pq.ParquetFile(io.BytesIO(whole(path)) if packed else path) as file:
            number = 0
            for batch in file.iter_batches(1024):
                for item in batch.to_pylist():
                    number += 1
                    yield number, item
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as e:
        raise DataError(f"{path} is not a readable Parquet file: {e}") from e
