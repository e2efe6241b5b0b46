"""Reads a source into rows, or says everything that is wrong with it at once."""

import difflib
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Any

from strop.core.errors import ConfigError, DataError
from strop.data.formats import FORMATS, KNOWN_COLUMNS, Format, row_of
from strop.data.record import Record
from strop.data.rows import BrokenRowsError, Fault, Row, Rows
from strop.data.sources import records, source_name


def read(source: Any, *, mapping: Mapping[str, str] | None = None) -> Rows:
    """Read every row of `source`; the format is told by the columns of all rows together.

    Args:
        source: the path of a JSONL, JSON, CSV, TSV or Parquet file, a `datasets.Dataset`, or a list
            of dictionaries.
        mapping: for columns that bear other names, their name to the one strop knows, as
            `{"question": "prompt", "reply": "completion"}`.

    Returns:
        The rows in their order. Nothing is left out.

    Raises:
        DataError: the source cannot be read, or some rows cannot be used; the text lists every one
            of them with its line number and the reason.
    """
    rows, faults, layout, total = examine(source, mapping)
    if faults:
        raise BrokenRowsError(
            source_name(source), faults, total, "Correct these rows or take them out."
        )
    return Rows(rows, layout.name, source_name(source))


def mapping_of(names: str | None) -> dict[str, str] | None:
    """Return `question=prompt,reply=completion` as a mapping.

    Raises:
        ConfigError: it is not of this form.
    """
    for fault in mapping_fault(names):
        raise ConfigError(fault)
    pairs = (pair.split("=") for pair in (names or "").split(",") if pair)
    return {theirs.strip(): ours.strip() for theirs, ours in pairs} or None


def mapping_fault(names: str | None) -> Iterator[str]:
    """Yield what is wrong with a mapping written as text, if anything is."""
    pairs = [] if names is None else [pair.split("=") for pair in names.split(",")]
    if any(len(pair) != 2 or not all(part.strip() for part in pair) for pair in pairs):
        yield f"map is {names!r}; write it as question=prompt,reply=completion"


def stream(source: Any, *, mapping: Mapping[str, str] | None = None) -> Iterator[Row]:
    """Yield the rows of a source that may be larger than memory.

    The source is gone through three times: to tell its format, to find every fault, and to yield.

    Args:
        source: what `read` takes, if it can be gone through more than once.
        mapping: as for `read`.

    Raises:
        DataError: as `read` does, before the first row.
    """
    name = source_name(source)
    shapes: Counter[tuple[str, ...]] = Counter()
    total = 0
    for _, item in records(source):
        total += 1
        if not isinstance(item, Fault):
            shapes[tuple(item)] += 1
    if not total:
        raise DataError(f"{name} holds no rows")
    names: dict[str, str] = {}
    layout = FORMATS[0]
    if shapes:
        names = _names(shapes, mapping or {}, name)
        layout = _best(_renamed(shapes, names), name)
    faults = [made for made in _built(source, names, layout) if isinstance(made, Fault)]
    if faults:
        raise BrokenRowsError(name, faults, total, "Correct these rows or take them out.")
    return (made for made in _built(source, names, layout) if isinstance(made, Row))


def _built(source: Any, names: Mapping[str, str], layout: Format) -> Iterator[Row | Fault]:
    return (_made(line, item, names, layout) for line, item in records(source))


def _made(line: int, item: Record | Fault, names: Mapping[str, str], layout: Format) -> Row | Fault:
    if isinstance(item, Fault):
        return item
    record = {names.get(c, c): v for c, v in item.items()} if names else item
    its = layout.columns(record)
    if its is None:
        return Fault(line, _lacks(layout, record), "missing_column")
    return row_of(line, record, layout, its)


def examine(
    source: Any, mapping: Mapping[str, str] | None = None, columns: Counter[str] | None = None
) -> tuple[list[Row], list[Fault], Format, int]:
    """Return the usable rows, the faults of the others, the format, and the number of rows.

    Args:
        source: what `read` takes.
        mapping: names of columns.
        columns: filled with how many rows have each column.

    Raises:
        DataError: the source cannot be read at all, or its columns are not known.
    """
    found = deque(records(source))
    total = len(found)
    name = source_name(source)
    if not found:
        raise DataError(f"{name} holds no rows")
    shapes = Counter(tuple(item) for _, item in found if not isinstance(item, Fault))
    if not shapes:
        broken = [item for _, item in found if isinstance(item, Fault)]
        raise BrokenRowsError(name, broken, total, "No row could be read.")
    names = _names(shapes, mapping or {}, name)
    shapes = _renamed(shapes, names)
    layout = _best(shapes, name)
    if columns is not None:
        for shape, count in shapes.items():
            columns.update(dict.fromkeys(shape, count))
    rows: list[Row] = []
    faults: list[Fault] = []
    while found:  # a record is let go when it became a row
        made = _made(*found.popleft(), names, layout)
        if isinstance(made, Fault):
            faults.append(made)
        else:
            rows.append(made)
    return rows, faults, layout, total


def _names(
    shapes: Counter[tuple[str, ...]], mapping: Mapping[str, str], name: str
) -> dict[str, str]:
    """Return what columns are renamed to: what the mapping says, and known names in other case.

    Raises:
        DataError: the mapping does not fit the columns.
    """
    columns = {column for shape in shapes for column in shape}
    for theirs, ours in mapping.items():
        if theirs not in columns:
            close = difflib.get_close_matches(theirs, map(str, columns), 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise DataError(
                f"{name} has no column {theirs!r} to map; it has {_spoken(columns)}{hint}"
            )
        if ours not in KNOWN_COLUMNS:
            raise DataError(
                f"{theirs!r} cannot be mapped to {ours!r}; known are {_spoken(KNOWN_COLUMNS)}"
            )
        if ours in columns.difference(mapping) or list(mapping.values()).count(ours) > 1:
            raise DataError(
                f"{theirs!r} cannot be mapped to {ours!r}, as {name} has another column of that "
                "name; map that one to another name too"
            )
    taken = columns.difference(mapping).union(mapping.values())
    cased: dict[str, str] = {}
    for column in columns.difference(mapping):
        plain = column.strip().lower() if isinstance(column, str) else column
        if plain in KNOWN_COLUMNS and plain not in taken:
            cased[column] = plain
            taken.add(plain)
    return {**mapping, **cased}


def _renamed(
    shapes: Counter[tuple[str, ...]], names: Mapping[str, str]
) -> Counter[tuple[str, ...]]:
    renamed: Counter[tuple[str, ...]] = Counter()
    for shape, count in shapes.items():
        renamed[tuple(names.get(c, c) for c in shape)] += count
    return renamed


def _best(shapes: Counter[tuple[str, ...]], name: str) -> Format:
    fits = {
        layout: sum(
            count for shape, count in shapes.items() if layout.columns(dict.fromkeys(shape))
        )
        for layout in FORMATS
    }
    best = max(FORMATS, key=lambda layout: fits[layout])
    if not fits[best]:
        columns = {column for shape in shapes for column in shape}
        if not columns:
            raise DataError(f"{name} has rows without anything in them: they have no columns")
        known = "; ".join(layout.spoken() for layout in FORMATS)
        raise DataError(
            f"{name} has the columns {_spoken(columns)}, which are no known format. Known are: "
            f"{known}. Rename the columns, or map them to these names, as in "
            "mapping={'ask': 'prompt', 'reply': 'completion'}"
        )
    if best.name == "text" and any({"role", "content"} <= set(shape) for shape in shapes):
        raise DataError(
            f"{name} has one message a row (columns role and content), and nothing says which "
            "belong together; put the messages of each conversation into one row, as "
            '{"messages": [{"role": ..., "content": ...}, ...]}, or map content=text if each is a '
            "text of its own"
        )
    return best


def _lacks(layout: Format, record: Record) -> str:
    missing = [
        " or ".join(names) for names in layout.needs if not any(name in record for name in names)
    ]
    has = _spoken(record) if record else "none"
    return f"has no column {', '.join(missing)}, which the other rows have (its columns: {has})"


def _spoken(columns: Any) -> str:
    ordered = sorted(map(str, columns))
    more = f" and {len(ordered) - 12} more" if len(ordered) > 12 else ""
    return ", ".join(ordered[:12]) + more
