"""Columns of a source: their names for strop, and those that are ignored."""

import dataclasses
import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from strop.core.errors import ConfigError, DataError
from strop.data.formats.known import KNOWN_COLUMNS
from strop.data.formats.record import Record, Shapes, format_columns


@dataclasses.dataclass(frozen=True, slots=True)
class Columns:
    """Reading of the columns of a source."""

    mapping: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Names in the source -> names that formats know."""
    ignored: tuple[str, ...] = ()
    """Columns that are ignored."""
    instruction: str | None = None
    """Text before each text of a classification; None for one that names the labels."""
    trained: tuple[str, ...] = ()
    """Instructions of a run, one of which precedes each text of a classification."""
    encoding: str | None = None
    """Encoding of text files; None recognises UTF-8 and what Excel writes."""
    strict: bool = True
    """True if a named column must be there; those of a run need not, in another file."""

    def resolve(self, shapes: Shapes, name: str) -> "ResolvedColumns":
        """Return the names for strop of a source's columns.

        Args:
            shapes: number of records with each tuple of columns.
            name: of the source.

        Raises:
            DataError: a named column is not there, or the mapping does not fit the columns.
        """
        present = {column for shape in shapes for column in shape}
        ignored: set[str] = set()
        for column in self.ignored:
            if (match := _match(column, present)) is not None:
                ignored.add(match)
            elif self.strict:
                raise DataError(_absent(column, present, name, "to ignore"))
        names = _renaming(present - ignored, self, name)
        used = [c for c in (*self.mapping, *self.ignored) if _match(c, present) is not None]
        renamed: Shapes = Counter()
        for shape, count in shapes.items():
            renamed[tuple(names.get(c, c) for c in shape if c not in ignored)] += count
        return ResolvedColumns(names, ignored, used, renamed)


@dataclasses.dataclass(frozen=True, slots=True)
class ResolvedColumns:
    """Names of the columns of one source."""

    names: Mapping[str, str]
    """Names in the source -> names for strop, where they differ."""
    ignored: Collection[str]
    """Names in the source of ignored columns."""
    used: Collection[str]
    """Names in `Columns` that the source has."""
    shapes: Shapes
    """Number of records with each tuple of columns, by their names for strop."""

    def record(self, record: Record) -> Record:
        """Return a record by the names for strop."""
        if not self.names and not self.ignored:
            return record
        return {self.names.get(c, c): v for c, v in record.items() if c not in self.ignored}


def columns_of(settings: Mapping[str, Any]) -> Columns:
    """Return the columns of the settings `map`, `ignore_columns`, `instruction` and `encoding`."""
    return Columns(
        mapping_of(settings.get("map")) or {},
        names_in(settings.get("ignore_columns")),
        settings.get("instruction"),
        encoding=settings.get("encoding"),
    )


def mapping_of(names: "str | Mapping[str, str] | None") -> dict[str, str] | None:
    """Return `question=prompt,reply=completion` as a mapping.

    Raises:
        ConfigError: it is not of this form.
    """
    for fault in mapping_fault(names):
        raise ConfigError(fault)
    if isinstance(names, Mapping):
        return dict(names) or None
    pairs = (pair.split("=") for pair in (names or "").split(",") if pair)
    return {theirs.strip(): ours.strip() for theirs, ours in pairs} or None


def mapping_fault(names: "str | Mapping[str, str] | None") -> Iterator[str]:
    """Yield the fault of a mapping written as text, if it has one."""
    if names is None or isinstance(names, Mapping):
        return
    pairs = [pair.split("=") for pair in names.split(",")]
    if any(len(pair) != 2 or not all(part.strip() for part in pair) for pair in pairs):
        yield f"map is {names!r}; write it as question=prompt,reply=completion"


def names_in(names: "str | Iterable[str] | None") -> tuple[str, ...]:
    """Return the names in a list or in a comma-separated text."""
    parts = names.split(",") if isinstance(names, str) else names or ()
    return tuple(name.strip() for name in parts if name.strip())


def _renaming(present: set[str], columns: Columns, name: str) -> dict[str, str]:
    """Return the new names of columns: those of the mapping, and known names in other case.

    Raises:
        DataError: the mapping does not fit the columns.
    """
    mapping: dict[str, str] = {}
    for theirs, ours in columns.mapping.items():
        column = _match(theirs, present)
        if column is None:
            if columns.strict:
                raise DataError(_absent(theirs, present, name, "to map"))
            continue
        if ours not in KNOWN_COLUMNS:
            raise DataError(
                f"{theirs!r} cannot be mapped to {ours!r}; known are {format_columns(KNOWN_COLUMNS)}"
            )
        mapping[column] = ours
    for theirs, ours in mapping.items():
        if ours in present.difference(mapping) or list(mapping.values()).count(ours) > 1:
            if not columns.strict:  # a file that has strop's own names already
                return _in_known_case(present, {})
            raise DataError(
                f"{theirs!r} cannot be mapped to {ours!r}, as {name} has another column of that "
                "name; map that one to another name too"
            )
    return _in_known_case(present, mapping)


def _in_known_case(present: set[str], mapping: dict[str, str]) -> dict[str, str]:
    """Return the mapping, extended by columns whose names differ from known ones only in case."""
    taken = present.difference(mapping).union(mapping.values())
    cased: dict[str, str] = {}
    for column in sorted(present.difference(mapping), key=str):
        plain = column.strip().lower() if isinstance(column, str) else column
        if plain in KNOWN_COLUMNS and plain not in taken:
            cased[column] = plain
            taken.add(plain)
    return {**mapping, **cased}


def _match(column: str, present: set[str]) -> str | None:
    """Return the column of that name, or the only one that differs from it in case alone."""
    if column in present:
        return column
    alike = [c for c in present if str(c).strip().lower() == column.strip().lower()]
    return alike[0] if len(alike) == 1 else None


def _absent(column: str, present: set[str], name: str, purpose: str) -> str:
    close = difflib.get_close_matches(column, map(str, present), 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{name} has no column {column!r} {purpose}; it has {format_columns(present)}{hint}"


def format_values(columns: Mapping[str, str]) -> str:
    """Return columns with a value of each, as in `topic ('birds'), notes ('none yet')`."""
    values = {c: f"{v[:40]} …" if len(v) > 40 else v for c, v in columns.items()}
    more = f" and {len(values) - 8} more" if len(values) > 8 else ""
    return ", ".join(f"{c} ({v!r})" for c, v in list(values.items())[:8]) + more
