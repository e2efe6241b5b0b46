"""Sources of records: files, folders, the hub, `datasets` objects, tables, lists."""

import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from strop.core.errors import DataError
from strop.core.system.hub import hub_problem
from strop.data.formats.record import NumberedRecord, as_record, without_nulls
from strop.data.reading.csv_rows import csv_rows
from strop.data.reading.documents import TEXT_SUFFIXES, document_rows
from strop.data.reading.encodings import decoded_note, encoding_of
from strop.data.reading.files import UTF8, refuse_bomb, suffix_of, whole
from strop.data.reading.json_rows import json_rows
from strop.data.reading.spreadsheet import SHEET_SUFFIXES, sheet_rows
from strop.data.reading.tables import (
    feature_names,
    is_table,
    label_names,
    named,
    of_batch,
    of_table,
    refuse_repeated_names,
)

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", *SHEET_SUFFIXES)
HUB = "hf:"
"""Prefix of a source on the hub: `hf:owner/name` or `hf:owner/name:split`."""


def records(
    source: Any, encoding: str | None = None, note: Callable[[str], None] = lambda _: None
) -> Iterator[NumberedRecord]:
    """Yield each row of `source` with its line number.

    Args:
        source: the path of a JSONL, JSON, CSV, TSV or Parquet file, plain or gzip; of a text,
            Markdown, HTML or PDF file or a folder of such; of a folder written by `datasets`;
            `hf:owner/name:split` for a data set to fetch from the hub; a `datasets` object; a
            pandas or polars DataFrame or an Arrow table; a dictionary of columns; or an iterable
            of dictionaries.
        encoding: of text files; None recognises UTF-8 and what Excel writes.
        note: called with a sentence about each file that is not read as it stands.

    Raises:
        DataError: the source as a whole cannot be read.
    """
    if isinstance(source, str) and source.startswith(HUB):
        yield from _of_hub(source)
    elif isinstance(source, (str, Path)):
        yield from _of_path(Path(source), encoding, note)
    elif _is_datasets(source):
        yield from _of_dataset(source)
    elif is_table(source):
        yield from of_table(source)
    elif isinstance(source, Mapping):
        yield from _of_columns(source)
    elif _is_rows(source):
        for number, item in enumerate(source, 1):
            yield number, as_record(item, number)
    else:
        raise DataError(
            f"a {type(source).__name__} is not data; give a path, a datasets.Dataset, a DataFrame, "
            "an Arrow table or a list of dictionaries"
        )


def _is_rows(source: Any) -> bool:
    """Return whether it is iterable, but no text, bytes or array of numbers."""
    plain = isinstance(source, Iterable) and not isinstance(source, (str, bytes, bytearray))
    return plain and not hasattr(source, "dtype")


def _of_columns(table: Mapping[str, Any]) -> Iterator[NumberedRecord]:
    """Yield the rows of a table given by columns."""
    columns = {name: list(v) for name, v in table.items() if isinstance(v, (list, tuple))}
    lengths = {len(column) for column in columns.values()}
    if len(columns) < len(table) or len(lengths) != 1:
        raise DataError(
            "a dictionary is data if it has a list for each column, all of one length; give a list "
            "of dictionaries for rows"
        )
    for number, cells in enumerate(zip(*columns.values(), strict=True), 1):
        yield number, dict(zip(columns, cells, strict=True))


def _is_datasets(source: Any) -> bool:
    return type(source).__module__.split(".")[0] == "datasets" and "datasets" in sys.modules


def _of_dataset(source: Any) -> Iterator[NumberedRecord]:
    if isinstance(source, dict):
        splits = ", ".join(source)
        raise DataError(f"the data set has the splits {splits}; give one of them, as data['train']")
    features = getattr(source, "features", None)
    names = feature_names(features)
    for number, item in enumerate(source, 1):
        record = {**item, **{c: named([item[c]], names[c])[0] for c in names if c in item}}
        yield number, without_nulls(record, features)


def _of_hub(source: str) -> Iterator[NumberedRecord]:
    name, _, part = source.removeprefix(HUB).partition(":")
    if not re.fullmatch(r"(?:\w[\w.-]*/)?\w[\w.-]*", name):
        raise DataError(f"{source} names no data set; write hf:owner/name or hf:owner/name:split")
    import datasets

    cached = Path(datasets.config.HF_DATASETS_CACHE, name.replace("/", "___")).is_dir()
    if not cached and (problem := hub_problem()):
        raise DataError(
            f"{source} cannot be fetched: the hub {problem}; give a file, or a folder that "
            "datasets' save_to_disk wrote"
        )
    try:
        dataset = datasets.load_dataset(name, split=part or None)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as e:
        raise DataError(f"{source} cannot be fetched from the hub: {e}") from e
    yield from _of_dataset(dataset)


def check_path(path: Path) -> None:
    """Raise DataError if there is neither a file nor a folder; the text names those beside it."""
    if not path.exists():
        raise DataError(f"there is no file {path}{_nearby(path)}")


def _of_path(
    path: Path, encoding: str | None, note: Callable[[str], None]
) -> Iterator[NumberedRecord]:
    check_path(path)
    if path.is_dir():
        yield from _of_folder(path, encoding, note)
        return
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)")
    suffix = suffix_of(path)
    if suffix == ".parquet":
        yield from _of_parquet(path)
    elif suffix in SHEET_SUFFIXES:
        yield from sheet_rows(path, note)
    elif suffix in (".csv", ".tsv"):
        actual = encoding_of(path, encoding)
        if encoding is None and actual != UTF8:
            note(decoded_note(path, actual))
        yield from csv_rows(path, "\t" if suffix == ".tsv" else None, actual)
    elif suffix in (".jsonl", ".ndjson", ".json"):
        yield from json_rows(path, suffix, encoding_of(path, encoding) if encoding else UTF8)
    elif suffix in TEXT_SUFFIXES:
        yield from document_rows([path], encoding, note)
    else:
        known = ", ".join(f"*{s}" for s in (*SUFFIXES, *TEXT_SUFFIXES))
        named = f"files named *{suffix}" if suffix else "files without a suffix"
        raise DataError(f"{path}: {named} are not read; give one of {known}")


def _nearby(path: Path) -> str:
    if not path.parent.is_dir():
        on_hub = f"; a data set of the hub is written {HUB}{path}" if len(path.parts) == 2 else ""
        return f"; the folder {path.parent} does not exist either{on_hub}"
    names = sorted(p.name for p in path.parent.iterdir() if suffix_of(p) in SUFFIXES)
    if not names:
        return ""
    folder = "the current folder" if path.parent == Path() else path.parent
    return f"; {folder} holds {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"


def _of_folder(
    path: Path, encoding: str | None, note: Callable[[str], None]
) -> Iterator[NumberedRecord]:
    if (path / "dataset_dict.json").is_file():
        parts = sorted(p.name for p in path.iterdir() if p.is_dir())
        raise DataError(f"{path} has the splits {', '.join(parts)}; give one, as {path / parts[0]}")
    if (path / "dataset_info.json").is_file():
        import datasets

        try:
            dataset = datasets.load_from_disk(str(path))
        except (OSError, ValueError) as e:
            raise DataError(
                f"{path} cannot be read as the data set that datasets' save_to_disk wrote: {e}; "
                "write it again"
            ) from e
        yield from _of_dataset(dataset)
        return
    texts = sorted(p for p in path.rglob("*") if p.is_file() and suffix_of(p) in TEXT_SUFFIXES)
    tables = sorted(
        str(p.relative_to(path))
        for p in path.rglob("*")
        if p.is_file()
        and suffix_of(p) in SUFFIXES
        and (p.parent == path or suffix_of(p) != ".json")  # pages have their search index in JSON
    )
    if tables:
        one = f"{path / tables[0]}"
        raise DataError(f"{path} is a folder with {', '.join(tables[:8])}; give one, as {one}")
    if not texts:
        kinds = ", ".join(f"*{s}" for s in (*SUFFIXES, *TEXT_SUFFIXES))
        raise DataError(f"{path} is a folder without data; looked for {kinds}")
    yield from document_rows(texts, encoding, note)


def _of_parquet(path: Path) -> Iterator[NumberedRecord]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    size, grown, number = path.stat().st_size, 0, 0
    try:
        packed = path.suffix.lower() == ".gz"
        source = io.BytesIO(whole(path)) if packed else path
        # buffered in advance, as is the default from pyarrow 25 on, every row group read stays
        with pq.ParquetFile(source, pre_buffer=False) as file:
            refuse_repeated_names(file.schema_arrow.names, str(path))
            names = label_names(file.schema_arrow)
            for batch in file.iter_batches(1024):
                plain = (
                    c.dictionary_decode() if pa.types.is_dictionary(c.type) else c
                    for c in batch.columns
                )
                grown += sum(column.nbytes for column in plain)
                refuse_bomb(path, size, grown)
                for item in of_batch(batch, names):
                    number += 1
                    yield number, without_nulls(item)
    except (pa.ArrowException, OSError) as e:
        raise DataError(f"{path} is not a readable Parquet file: {e}") from e
