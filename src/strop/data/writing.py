"""Records written as JSONL, CSV, TSV or Parquet."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from strop.core.errors import ConfigError
from strop.core.files import written_whole
from strop.data.formats.record import WrittenFloat, is_missing, spelled

WRITTEN = (".jsonl", ".csv", ".tsv", ".parquet")
"""Suffixes of the files that are written."""


def check_writable(path: Path) -> None:
    """Check the name of a file.

    Raises:
        ConfigError: its suffix is of no kind of file that is written.
    """
    if path.suffix.lower() not in WRITTEN:
        kinds = ", ".join(f"*{suffix}" for suffix in WRITTEN)
        raise ConfigError(
            f"{path}: files named *{path.suffix} are not written; name one of {kinds}"
        )


def write_records(
    path: Path, records: Sequence[Mapping[str, Any]], added: Sequence[Mapping[str, Any]]
) -> None:
    """Write records, each with the columns that are added to it, whole or not at all.

    Numbers keep the digits they had in a text file. In CSV and TSV lists and objects become JSON.

    Args:
        path: of the file, whose suffix says its kind.
        records: with their columns.
        added: further columns of each.
    """
    suffix = path.suffix.lower()
    rows = [{**record, **more} for record, more in zip(records, added, strict=True)]
    with written_whole(path) as scratch:
        if suffix == ".parquet":
            _write_parquet(scratch, rows)
        elif suffix == ".jsonl":
            scratch.write_text("".join(map(_json_line, rows)), encoding="utf-8")
        else:
            _write_csv(scratch, rows, "\t" if suffix == ".tsv" else ",")


def _columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _json_line(row: Mapping[str, Any]) -> str:
    cells = (
        f"{json.dumps(name, ensure_ascii=False)}: "
        + (
            v.text
            if isinstance(v, WrittenFloat)
            else json.dumps(v, ensure_ascii=False, default=str)
        )
        for name, v in row.items()
    )
    return "{" + ", ".join(cells) + "}\n"


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]], delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        columns = _columns(rows)
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(row.get(name)) for name in columns])


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if is_missing(value):
        return ""
    text = spelled(value)
    return json.dumps(value, ensure_ascii=False, default=str) if text is None else text


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = _columns(rows)
    arrays = {}
    for name in columns:
        cells = [row.get(name) for row in rows]
        try:
            arrays[name] = pa.array([float(c) if isinstance(c, WrittenFloat) else c for c in cells])
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # cells of several types
            arrays[name] = pa.array([None if c is None else _cell(c) for c in cells])
    pq.write_table(pa.table(arrays), path)
