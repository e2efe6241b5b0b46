"""Several sources as one: each with its weight, the share of its rows that an epoch takes."""

import dataclasses
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from strop.core.errors import DataError
from strop.data.reading.columns import Columns, mapping_fault, mapping_of, names_in
from strop.data.reading.read import REMEDY, examine
from strop.data.reading.sources import HUB, source_name
from strop.data.rows import BrokenRowsError, Row, Rows

KEYS = ("path", "weight", "map", "ignore_columns", "instruction")
"""What a source may say of itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """One source of several."""

    data: Any
    weight: float = 1.0
    """1 takes each row once an epoch, 0.5 half of them, 2 each twice."""
    columns: Columns | None = None
    """How its columns are read, where it says so itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """What came of one source."""

    name: str
    weight: float
    before: int
    """Lines of the sources before it: its first row stands at the line behind them."""
    rows: int
    format: str
    instruction: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Blend:
    """The rows of all sources, each once, and what came of each source."""

    rows: Rows
    parts: list[Part]

    def weighed(self, rows: Rows, seed: int) -> Rows:
        """Return those rows as often as the weights of their sources say.

        Of `n` rows and a weight `w`, `round(w * n)` are taken: each `floor(w)` times, and the rest
        drawn without putting back, by the seed and the place of the source.
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
    """Whether `data` names files, instead of being rows."""
    if isinstance(data, (list, tuple)):
        return bool(data) and all(isinstance(i, (str, Path)) or is_source(i) for i in data)
    return isinstance(data, (str, Path)) or is_source(data)


def files_of(data: Any) -> list[Path]:
    """Return the files that `data` names, as far as they are paths."""
    return [Path(source.data) for source in sources_of(data)]


def stem_of(data: Any) -> str:
    """Return the name of the first file without its ending."""
    return Path(str(sources_of(data)[0].data)).stem


def is_source(item: Any) -> bool:
    """Whether it is an object that names a file."""
    return isinstance(item, Mapping) and "path" in item and set(item) <= set(KEYS)


def source_faults(data: Any) -> Iterator[str]:
    """Yield what is wrong with the sources in a setting."""
    for item in data if isinstance(data, (list, tuple)) else ():
        if isinstance(item, Mapping):
            if not is_source(item) or not isinstance(item["path"], str):
                yield f"data has the source {dict(item)}; it has path, and may have {_spoken_keys()}"
                continue
            yield from mapping_fault(item.get("map"))
            weight = item.get("weight", 1)
        elif isinstance(item, (str, Path)):
            weight = _source(item).weight
        else:
            yield f"data has {item!r}; a source is a path or has path and weight"
            continue
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not weight > 0:
            yield f"the weight of a source is {weight!r}; it must be above 0"


def _spoken_keys() -> str:
    return ", ".join(KEYS[1:])


def _source(item: Any) -> Source:
    if is_source(item):
        own = any(item.get(key) is not None for key in KEYS[2:])
        columns = Columns(
            mapping_of(item.get("map")) or {},
            names_in(item.get("ignore_columns")),
            item.get("instruction"),
        )
        return Source(item["path"], float(item.get("weight", 1)), columns if own else None)
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
    """Return the names of files in a setting as they are understood from any folder."""
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
        The rows in the order of the sources; lines are counted on from source to source.

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
    seen: set[str] = set()
    before = 0
    for source in sources:
        name = source_name(source.data)
        try:
            found = examine(source.data, source.columns or shared)
            if found.faults:
                raise BrokenRowsError(name, found.faults, found.total, REMEDY)
        except DataError as e:
            wrong.append(e)
            continue
        layout = found.layout
        seen |= layout.used
        label = f"{name}: " if several else ""
        notes += [label + note for note in layout.notes]
        unread = {**layout.unread, **unread}
        rows += [dataclasses.replace(row, line=row.line + before) for row in found.rows]
        weight, kind = source.weight, layout.format.name
        parts.append(Part(name, weight, before, len(found.rows), kind, layout.instruction))
        before = rows[-1].line
    if wrong:
        raise wrong[0] if len(wrong) == 1 else DataError("\n".join(map(str, wrong)))
    if absent := [c for c in (*columns.mapping, *columns.ignored) if several and c not in seen]:
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
    """Return what is known of the columns of all sources together, of which each has a part."""
    told = () if columns.instruction is None else (columns.instruction,)
    return dataclasses.replace(columns, instruction=None, trained=told, strict=False)


def spoken_parts(parts: Sequence[Part], rows: Rows) -> list[str]:
    """Return a sentence for each source: its rows in an epoch, and where its lines are counted from."""
    ends = [*(part.before for part in parts[1:]), math.inf]
    counts = [sum(p.before < r.line <= e for r in rows) for p, e in zip(parts, ends, strict=True)]
    return [
        f"{part.name} ({part.format}): {count:,} of its {part.rows:,} rows an epoch, weight "
        f"{part.weight:g}"
        + (f"; its line 1 is counted as {part.before + 1:,}" if part.before else "")
        for part, count in zip(parts, counts, strict=True)
    ]
