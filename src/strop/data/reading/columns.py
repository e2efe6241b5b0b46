"""The columns of a source: what each is called, which are read, and which are left out."""

import dataclasses
import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from strop.core.errors import ConfigError, DataError
from strop.data.formats.known import KNOWN_COLUMNS

Shapes = Counter[tuple[str, ...]]
"""How many records have which columns."""


@dataclasses.dataclass(frozen=True, slots=True)
class Columns:
    """How the columns of a source are read."""

    mapping: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """For columns by other names, their name to the one that formats know."""
    ignored: tuple[str, ...] = ()
    """Columns that are not read, as if they were not there."""
    instruction: str | None = None
    """What stands before each text of a classification; None for one that names the labels."""
    trained: tuple[str, ...] = ()
    """Instructions of a run: where the rows are classified, one of them stands before each text."""
    strict: bool = True
    """Whether a named column must be there; those of a run need not, in another file."""


def columns_of(settings: Mapping[str, Any]) -> Columns:
    """Return how the settings `map`, `ignore_columns` and `instruction` say columns are read."""
    return Columns(
        mapping_of(settings.get("map")) or {},
        names_in(settings.get("ignore_columns")),
        settings.get("instruction"),
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
    """Yield what is wrong with a mapping written as text, if anything is."""
    if names is None or isinstance(names, Mapping):
        return
    pairs = [pair.split("=") for pair in names.split(",")]
    if any(len(pair) != 2 or not all(part.strip() for part in pair) for pair in pairs):
        yield f"map is {names!r}; write it as question=prompt,reply=completion"


def names_in(names: "str | Iterable[str] | None") -> tuple[str, ...]:
    """Return the names in a list or in a text with commas between."""
    parts = names.split(",") if isinstance(names, str) else names or ()
    return tuple(name.strip() for name in parts if name.strip())


def renaming(shapes: Shapes, columns: Columns, name: str) -> dict[str, str]:
    """Return what columns are renamed to: what the mapping says, and known names in other case.

    Raises:
        DataError: the mapping does not fit the columns.
    """
    present = {column for shape in shapes for column in shape}
    mapping: dict[str, str] = {}
    for theirs, ours in columns.mapping.items():
        column = _present(theirs, present, name, "to map", strict=columns.strict)
        if column is None:
            continue
        if ours not in KNOWN_COLUMNS:
            raise DataError(
                f"{theirs!r} cannot be mapped to {ours!r}; known are {spoken(KNOWN_COLUMNS)}"
            )
        mapping[column] = ours
    for theirs, ours in mapping.items():
        if ours in present.difference(mapping) or list(mapping.values()).count(ours) > 1:
            if not columns.strict:  # a file that has strop's own names already
                return _known(present, {})
            raise DataError(
                f"{theirs!r} cannot be mapped to {ours!r}, as {name} has another column of that "
                "name; map that one to another name too"
            )
    return _known(present, mapping)


def _known(present: set[str], mapping: dict[str, str]) -> dict[str, str]:
    """Return the mapping, and for columns with a known name in other case that name."""
    taken = present.difference(mapping).union(mapping.values())
    cased: dict[str, str] = {}
    for column in sorted(present.difference(mapping), key=str):
        plain = column.strip().lower() if isinstance(column, str) else column
        if plain in KNOWN_COLUMNS and plain not in taken:
            cased[column] = plain
            taken.add(plain)
    return {**mapping, **cased}


def left_out(shapes: Shapes, columns: Columns, name: str) -> set[str]:
    """Return the columns of a source that are to be ignored.

    Raises:
        DataError: a column to ignore is not there.
    """
    present = {column for shape in shapes for column in shape}
    found = (
        _present(column, present, name, "to ignore", strict=columns.strict)
        for column in columns.ignored
    )
    return {column for column in found if column is not None}


def named_columns(shapes: Shapes, columns: Columns) -> set[str]:
    """Return the names of columns, to map or to ignore, that a source has."""
    present = {column for shape in shapes for column in shape}
    names = (*columns.mapping, *columns.ignored)
    return {c for c in names if _present(c, present, "", "", strict=False) is not None}


def _present(
    column: str, present: set[str], name: str, purpose: str, *, strict: bool
) -> str | None:
    """Return the column of that name, or the only one that differs from it in case alone."""
    if column in present:
        return column
    alike = [c for c in present if str(c).strip().lower() == column.strip().lower()]
    if len(alike) == 1:
        return alike[0]
    if not strict:
        return None
    close = difflib.get_close_matches(column, map(str, present), 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise DataError(f"{name} has no column {column!r} {purpose}; it has {spoken(present)}{hint}")


def spoken_values(columns: Mapping[str, str]) -> str:
    """Return columns with a value of each, as `topic ('birds'), notes ('none yet')`."""
    values = {c: f"{v[:40]} …" if len(v) > 40 else v for c, v in columns.items()}
    more = f" and {len(values) - 8} more" if len(values) > 8 else ""
    return ", ".join(f"{c} ({v!r})" for c, v in list(values.items())[:8]) + more


def spoken(columns: Collection[Any]) -> str:
    """Return the first dozen of the columns, in order."""
    ordered = sorted(map(str, columns))
    more = f" and {len(ordered) - 12} more" if len(ordered) > 12 else ""
    return ", ".join(ordered[:12]) + more
