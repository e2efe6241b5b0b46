"""The data of a run, read again, and other files read as that data was."""

from collections.abc import Mapping
from typing import Any

from strop.data import Rows
from strop.data.reading.blend import files_of, sources_of
from strop.data.reading.columns import Columns, columns_of
from strop.planning.settings import Settings
from strop.training.dataset import parts


def rows_of_run(record: Mapping[str, Any]) -> tuple[Rows, Rows] | None:
    """Return the rows that a run trained on and held out; None where they are no longer at hand.

    Raises:
        DataError: its files can no longer be read.
    """
    settings = Settings.read(record["settings"])
    if settings.data is None or not all(path.exists() for path in files_of(settings.data)):
        return None
    _, _, train, held_out = parts(settings.data, columns_of(settings.plain()), settings)
    return train, held_out


def columns_of_run(record: Mapping[str, Any], given: Columns | None = None) -> Columns:
    """Return how a file is read for a run: as its own data, but for what is given.

    Names of the run that the file lacks are passed over, so that one with strop's own columns is
    read as well; names that are given must be there.

    Args:
        record: what run.json holds.
        given: how columns of this file are read.
    """
    own, given = _of_all_sources(record["settings"]), given or Columns()
    parts = record.get("data", {}).get("sources", ())
    trained = dict.fromkeys(p["instruction"] for p in parts if p["instruction"] is not None)
    named = bool(given.mapping or given.ignored)
    return Columns(
        given.mapping if named else own.mapping,
        given.ignored if named else own.ignored,
        given.instruction,
        tuple(trained),
        strict=named,
    )


def _of_all_sources(settings: Mapping[str, Any]) -> Columns:
    """Return the names that a run gives columns, those of its single sources with them."""
    shared = columns_of(settings)
    named = settings.get("data")
    single = [s.columns for s in sources_of(named) if s.columns is not None] if named else []
    mapping = {k: v for columns in (*single, shared) for k, v in columns.mapping.items()}
    ignored = dict.fromkeys(c for columns in (*single, shared) for c in columns.ignored)
    return Columns(mapping, tuple(ignored))
