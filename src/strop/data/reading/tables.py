"""Records of tables in memory: DataFrames, Arrow tables, `datasets`; imports none of them."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from strop.core.errors import DataError
from strop.data.formats.record import (
    NumberedRecord,
    Record,
    UnreadableCell,
    as_record,
    without_nulls,
)


def is_table(source: Any) -> bool:
    """Return whether it has the methods of a pandas, polars or Arrow table."""
    return not isinstance(source, type) and (
        _is_pandas(source) or hasattr(source, "to_dicts") or hasattr(source, "__arrow_c_stream__")
    )


def _is_pandas(source: Any) -> bool:
    return all(hasattr(source, name) for name in ("to_dict", "iterrows", "columns"))


def of_table(source: Any) -> Iterator[NumberedRecord]:
    """Yield the rows of a table, counted from 1.

    Raises:
        DataError: it is one column, or cannot be read.
    """
    if _is_pandas(source):
        refuse_repeated_names(source.columns, f"the {type(source).__name__}")
        rows: Any = source.to_dict("records")
    elif hasattr(source, "to_dicts"):
        rows = source.to_dicts()
    else:
        rows = of_arrow(source)
    for number, row in enumerate(rows, 1):
        record = as_record(row, number)
        if isinstance(record, dict):
            record = {str(name): _cell(value) for name, value in record.items()}
            record = without_nulls(record)
        yield number, record


def of_arrow(source: Any) -> Iterator[Record]:
    """Yield the rows of an object with an Arrow stream.

    Raises:
        DataError: it has no columns by name, or cannot be read.
    """
    import pyarrow as pa

    try:
        reader = pa.RecordBatchReader.from_stream(source)
    except (pa.ArrowException, TypeError, ValueError) as e:
        raise DataError(f"the {type(source).__name__} cannot be read as a table: {e}") from e
    refuse_repeated_names(reader.schema.names, f"the {type(source).__name__}")
    names = label_names(reader.schema)
    for batch in reader:
        yield from of_batch(batch, names)


def of_batch(batch: Any, names: Mapping[str, list[str]]) -> Iterator[Record]:
    """Yield the rows of an Arrow batch: numbers as written, classes by their names."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_float32(field.type) or pa.types.is_float16(field.type):
            column = column.cast(pa.string()).cast(pa.float64())  # 0.1, not 0.10000000149011612
        cells = _cells(column)
        columns[field.name] = named(cells, names[field.name]) if field.name in names else cells
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, row, strict=True))


def _cells(column: Any) -> list[Any]:
    """Return the cells of an Arrow column; one that Python cannot hold as an `UnreadableCell`."""
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):  # beyond Python's dates, or no UTF-8
        return [_scalar(cell) for cell in column]


def _scalar(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError as e:
        return UnreadableCell(f"byte 0x{e.object[e.start]:02x} in it is not UTF-8")
    except (OverflowError, ValueError) as e:
        return UnreadableCell(str(e))


def refuse_repeated_names(names: Iterable[Any], source: str) -> None:
    """Raise DataError if a table has two columns of one name, of which a record keeps the last."""
    if repeated := [str(name) for name, count in Counter(names).items() if count > 1]:
        more = f" and {len(repeated) - 8} more" if len(repeated) > 8 else ""
        raise DataError(
            f"{source} has more than one column named {', '.join(repeated[:8])}{more}; rename them "
            "or leave all but one out"
        )


def label_names(schema: Any) -> dict[str, list[str]]:
    """Return the names of classes in a file that `datasets` wrote, by column."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        described = {name: kind for name, kind in features.items() if isinstance(kind, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    return {
        name: [str(label) for label in kind["names"]]
        for name, kind in described.items()
        if kind.get("_type") == "ClassLabel" and isinstance(kind.get("names"), list)
    }


def feature_names(features: Any) -> dict[str, list[str]]:
    """Return the names of classes in the features of a `datasets` object, by column."""
    return {
        name: list(kind.names)
        for name, kind in (features or {}).items()
        if type(kind).__name__ == "ClassLabel" and getattr(kind, "names", None)
    }


def named(cells: list[Any], names: list[str]) -> list[Any]:
    """Return classes by their names; -1, which means none in `datasets`, as null."""
    return [
        names[c] if isinstance(c, int) and 0 <= c < len(names) else None if c == -1 else c
        for c in cells
    ]


def _cell(value: Any) -> Any:
    """Return a cell as plain Python: no NaN or NaT, no scalar or array of NumPy."""
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, float) and value != value:
        return None
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        return _cell(value.tolist()) if getattr(value, "ndim", 1) == 0 else value.tolist()
    return value
