"""Data of a run, read again, and other files read as that data was."""

from collections.abc import Mapping
from typing import Any

from strop.data import Rows
from strop.data.reading.blend import files_of, sources_of
from strop.data.reading.columns import Columns, columns_of
from strop.planning.settings import Settings
from strop.training.dataset import read_and_split


def rows_of_run(record: Mapping[str, Any]) -> tuple[Rows, Rows] | None:
    """Return the rows that a run trained on and held out; None where the files are gone.

    Raises:
        DataError: its files can no longer be read.
    """
    settings = Settings.read(record["settings"])
    if settings.data is None or not all(path.exists() for path in files_of(settings.data)):
        return None
    rows = read_and_split(settings.data, columns_of(settings.plain()), settings)
    return rows.train, rows.held_out


def columns_of_run(record: Mapping[str, Any], explicit: Columns | None = None) -> Columns:
    """Return how the columns of a file are read for a run: as those of its data, unless given.

    Names of the run that the file lacks are ignored, so that a file with strop's names is read as
    well; names that are given must be in the file.

    Args:
        record: what run.json holds.
        explicit: how columns of this file are read, where not as those of the run.
    """
    of_run, explicit = _of_all_sources(record["settings"]), explicit or Columns()
    parts = record.get("data", {}).get("sources", ())
    trained = dict.fromkeys(p["instruction"] for p in parts if p["instruction"] is not None)
    named = bool(explicit.mapping or explicit.ignored)
    return Columns(
        explicit.mapping if named else of_run.mapping,
        explicit.ignored if named else of_run.ignored,
        explicit.instruction,
        tuple(trained),
        explicit.encoding,
        strict=named,
    )


def _of_all_sources(settings: Mapping[str, Any]) -> Columns:
    """Return the columns named for all sources of a run and for single ones."""
    shared = columns_of(settings)
    named = settings.get("data")
    single = [s.columns for s in sources_of(named) if s.columns is not None] if named else []
    mapping = {k: v for columns in (*single, shared) for k, v in columns.mapping.items()}
    ignored = dict.fromkeys(c for columns in (*single, shared) for c in columns.ignored)
    return Columns(mapping, tuple(ignored))
