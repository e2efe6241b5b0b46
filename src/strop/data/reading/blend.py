"""Several sources as one, each with a weight: the share of its rows in an epoch."""

import dataclasses
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from strop.core.errors import DataError
from strop.data.reading.columns import Columns, mapping_fault, mapping_of, names_in
from strop.data.reading.read import examine_all
from strop.data.reading.sources import HUB, check_path
from strop.data.rows import Row, Rows

KEYS = ("path", "weight", "map", "ignore_columns", "instruction", "encoding")
"""Keys of a source in a setting."""


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """One source of several."""

    data: Any
    weight: float = 1.0
    """1 takes each row once an epoch, 0.5 half of them, 2 each twice."""
    columns: Columns | None = None
    """Reading of its columns, if it has its own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Rows of one source in a blend."""

    name: str
    weight: float
    before: int
    """Number of lines of the sources before it."""
    rows: int
    format: str
    instruction: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Blend:
    """Rows of all sources, each once, and a part for each source."""

    rows: Rows
    parts: list[Part]

    def weighed(self, rows: Rows, seed: int) -> Rows:
        """Return the rows of an epoch: of a source with `n` rows and weight `w`, `round(w * n)`.

        Each row is taken `floor(w)` times; the rest is drawn without replacement, by the seed and
        the position of the source.
        """
        if all(part.weight == 1 for part in self.parts):
            return rows
        ends = [*(part.before for part in self.parts[1:]), math.inf]
        taken: list[Row] = []
        for number, (part, end) in enumerate(zip(self.parts, ends, strict=True)):
            mine = [row for row in rows if part.before < row.line <= end]
            count = round(part.weight * len(mine))
            if mine and not count:
                raise DataError(
                    f"{part.name}: of {len(mine)} rows a weight of {part.weight} takes none"
                )
            times, rest = divmod(count, len(mine)) if mine else (0, 0)
            drawn = set(random.Random(f"{seed} {number}").sample(range(len(mine)), rest))
            for i, row in enumerate(mine):
                taken += [row] * (times + (i in drawn))
        return dataclasses.replace(rows, rows=taken)


def sources_of(data: Any) -> list[Source]:
    """Return the sources that `data` names, or the only one that it is.

    Args:
        data: `a.jsonl`, `b.csv:0.5` with its weight, an object `{"path": ..., "weight": ...}`, a
            list of these, or rows as `strop.data.read` takes them.
    """
    if isinstance(data, (list, tuple)) and sources_named(data):
        return [_source(item) for item in data]
    return [_source(data)]


def sources_named(data: Any) -> bool:
    """Return whether `data` names files, rather than holding rows."""
    if isinstance(data, (list, tuple)):
        return bool(data) and all(isinstance(i, (str, Path)) or is_source(i) for i in data)
    return isinstance(data, (str, Path)) or is_source(data)


def files_of(data: Any) -> list[Path]:
    """Return the files that `data` names, as far as they are paths."""
    return [Path(source.data) for source in sources_of(data)]


def check_files(data: Any) -> None:
    """Raise DataError if a file that `data` names is not there."""
    for source in sources_of(data):
        if isinstance(source.data, (str, Path)) and not str(source.data).startswith(HUB):
            check_path(Path(source.data))


def stem_of(data: Any) -> str:
    """Return the name of the first file without its ending."""
    return Path(str(sources_of(data)[0].data)).stem


def is_source(item: Any) -> bool:
    """Return whether an item is an object that names a file."""
    return isinstance(item, Mapping) and "path" in item and set(item) <= set(KEYS)


def source_faults(data: Any) -> Iterator[str]:
    """Yield the faults of the sources in a setting."""
    one = [data] if isinstance(data, (str, Path)) else []
    for item in data if isinstance(data, (list, tuple)) else one:
        if isinstance(item, Mapping):
            if not is_source(item) or not isinstance(item["path"], str):
                yield f"data has the source {dict(item)}; it has path, and may have {_more_keys()}"
                continue
            yield from mapping_fault(item.get("map"))
            weight = item.get("weight", 1)
        elif isinstance(item, (str, Path)):
            weight = _source(item).weight
        else:
            yield f"data has {item!r}; a source is a path or has path and weight"
            continue
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not (number and 0 < weight < math.inf):
            yield f"the weight of a source is {weight!r}; it must be above 0 and finite"


def _more_keys() -> str:
    return ", ".join(KEYS[1:])


def _source(item: Any) -> Source:
    if is_source(item):
        has_columns = any(item.get(key) is not None for key in KEYS[2:])
        columns = Columns(
            mapping_of(item.get("map")) or {},
            names_in(item.get("ignore_columns")),
            item.get("instruction"),
            encoding=item.get("encoding"),
        )
        return Source(item["path"], float(item.get("weight", 1)), columns if has_columns else None)
    if isinstance(item, (str, Path)):
        path, colon, weight = str(item).rpartition(":")
        if colon and not Path(item).exists() and (share := _number(weight)) is not None:
            return Source(path, share)
    return Source(item)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def lasting(data: Any) -> Any:
    """Return a setting with its files as absolute paths."""
    if isinstance(data, (list, tuple)):
        return [lasting(item) for item in data]
    if isinstance(data, Mapping):
        return {**data, "path": lasting(data["path"])}
    source = _source(data)
    if str(data).startswith(HUB):
        return str(data)
    path = str(Path(source.data).absolute())
    return path if source.weight == 1 else f"{path}:{source.weight!r}"


def read_blend(data: Any, columns: Columns) -> Blend:
    """Read every source that `data` names.

    Args:
        data: as for `sources_of`.
        columns: how columns are read; with several sources, each named column must be in one.

    Returns:
        The rows in the order of the sources; lines are numbered across sources.

    Raises:
        DataError: a source cannot be read, or some rows cannot be used; all are named.
    """
    sources = sources_of(data)
    several = len(sources) > 1
    shared = _shared(columns) if several else columns
    parts: list[Part] = []
    rows: list[Row] = []
    wrong: list[DataError] = []
    notes: list[str] = []
    unread: dict[str, str] = {}
    used: set[str] = set()
    before = 0
    for source in sources:
        try:
            examined = examine_all(source.data, source.columns or shared)
        except DataError as e:
            wrong.append(e)
            continue
        name, layout = examined.name, examined.layout
        used.update(layout.names.used)
        label = f"{name}: " if several else ""
        notes += [label + note for note in (*layout.decoded, *layout.notes)]
        unread = {**layout.unread, **unread}
        rows += [dataclasses.replace(row, line=row.line + before) for row in examined.rows]
        weight, kind = source.weight, layout.format.name
        parts.append(Part(name, weight, before, len(examined.rows), kind, layout.instruction))
        before = rows[-1].line
    if wrong:
        raise wrong[0] if len(wrong) == 1 else DataError("\n".join(map(str, wrong)))
    if absent := [c for c in (*columns.mapping, *columns.ignored) if several and c not in used]:
        raise DataError(f"none of the sources has the column {', '.join(absent)}")
    instructions = dict.fromkeys(part.instruction for part in parts if part.instruction is not None)
    if columns.instruction is not None and not instructions:
        raise DataError("--instruction stands before texts with labels; no source has such rows")
    whole = Rows(
        rows,
        ", ".join(dict.fromkeys(part.format for part in parts)),
        ", ".join(part.name for part in parts),
        instruction=next(iter(instructions)) if len(instructions) == 1 else None,
        notes=tuple(notes),
        unread=unread,
    )
    return Blend(whole, parts)


def _shared(columns: Columns) -> Columns:
    """Return the columns given for all sources, of which each may have a part."""
    trained = () if columns.instruction is None else (columns.instruction,)
    return dataclasses.replace(columns, instruction=None, trained=trained, strict=False)


def format_parts(parts: Sequence[Part], rows: Rows) -> list[str]:
    """Return a sentence for each source: its rows in an epoch, and its first line number."""
    ends = [*(part.before for part in parts[1:]), math.inf]
    counts = [sum(p.before < r.line <= e for r in rows) for p, e in zip(parts, ends, strict=True)]
    return [
        f"{part.name} ({part.format}): {count:,} of its {part.rows:,} rows an epoch, weight "
        f"{part.weight:g}"
        + (f"; its line 1 is counted as {part.before + 1:,}" if part.before else "")
        for part, count in zip(parts, counts, strict=True)
    ]
