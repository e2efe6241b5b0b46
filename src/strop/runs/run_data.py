"""Rows of a run: read and split, read again, and other files read as these were."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strop.core.errors import DataError
from strop.data import Row, Rows, split
from strop.data.reading.blend import Blend, files_of, read_blend, sources_of
from strop.data.reading.columns import Columns, columns_of, format_values
from strop.data.reading.sources import records
from strop.data.rows import Fault
from strop.data.splitting import apart
from strop.data.texts import Texts, are_texts, read_texts
from strop.planning.rewards import reinforced
from strop.planning.settings import Settings
from strop.runs.run import Run


@dataclasses.dataclass(frozen=True, slots=True)
class SplitRows:
    """The rows of a run before they are encoded."""

    blend: Blend
    """All rows and the sources they come from."""
    undesirable: list[int]
    """Lines of undesirable answers, which are left out."""
    train: Rows
    """Rows to train on, each as often as the weight of its source says."""
    held_out: Rows
    """Rows to measure the loss on."""
    marked: bool = False
    """True if undesirable answers are among them, to be learned from (KTO)."""
    records: Mapping[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """What the source has for each line, where a run learns from rewards."""
    texts: Texts | None = None
    """Where whole texts are learned: all of them, of which `train` has only the first whole."""

    @property
    def source(self) -> str:
        """Path or name of the source."""
        return self.blend.rows.source

    @property
    def both(self) -> list[Row]:
        """Training rows, then held-out rows."""
        return [*self.train, *self.held_out]


def read_and_split(source: Any, columns: Columns, settings: Settings) -> SplitRows:
    """Return the rows of `source`, split as the settings say.

    Columns with content that are not read stop it, unless they are to be ignored; where answers are
    marked as desirable or not, a run by imitation takes the desirable ones only.

    Raises:
        DataError: columns with content would not be read; or rows are broken, all of them listed.
    """
    if settings.method == "text" or (
        settings.method == "auto"
        and not reinforced(settings)
        and settings.teacher is None
        and not isinstance(settings.held_out, str)
        and are_texts(source)
    ):
        return _split_texts(read_texts(source, columns), settings)
    blend = read_blend(source, columns)
    if reinforced(settings):
        train, held_out = _split(blend.rows, columns, settings)
        weighed = blend.weighed(train, settings.seed)
        return SplitRows(blend, [], weighed, held_out, records=_records(source, columns, blend))
    if blend.rows.unread:
        raise DataError(_unread_message(blend.rows))
    marked = _marked(blend.rows, settings.method)
    rows, undesirable = (blend.rows, []) if marked else _desirable(blend.rows)
    train, held_out = _split(rows, columns, settings)
    if not marked:
        held_out = desirable(held_out)
    return SplitRows(blend, undesirable, blend.weighed(train, settings.seed), held_out, marked)


def _split_texts(texts: Texts, settings: Settings) -> SplitRows:
    """Return the texts split, those to be held out in memory."""
    blend = texts.blend
    if blend.rows.unread:
        raise DataError(_unread_message(blend.rows))
    train, held_out = split(blend.rows, held_out=_drawn(settings), seed=settings.seed)
    lines = {row.line for row in held_out}
    whole = [row for row in texts if row.line in lines] if lines else []
    held_out = dataclasses.replace(held_out, rows=whole)
    train = blend.weighed(train, settings.seed)
    train = dataclasses.replace(train, rows=[texts.first.get(row.line, row) for row in train])
    return SplitRows(blend, [], train, held_out, texts=texts)


def _split(rows: Rows, columns: Columns, settings: Settings) -> tuple[Rows, Rows]:
    """Return the rows to train on and those held out: drawn, or of the file that is named.

    Lines of that file are counted on from the last of the data.
    """
    if not isinstance(settings.held_out, str) or reinforced(settings):
        return split(rows, held_out=_drawn(settings), seed=settings.seed)
    others = read_blend(settings.held_out, dataclasses.replace(columns, strict=False)).rows
    if others.unread:
        raise DataError(_unread_message(others))
    last = rows.rows[-1].line
    moved = [dataclasses.replace(row, line=row.line + last) for row in others]
    return apart(rows, others), dataclasses.replace(others, rows=moved)


def _drawn(settings: Settings) -> int | float:
    """Return the share or number of rows to draw for methods that take no file of them."""
    if isinstance(settings.held_out, str):
        raise DataError(
            f"held_out is {settings.held_out}; method {settings.method} draws what it holds out: give "
            "a share or a number of rows, and measure a file afterwards: strop eval RUN FILE"
        )
    return settings.held_out


def _marked(rows: Rows, method: str) -> bool:
    """Return True if a run learns from marks: its method does, or every row has one, of both kinds."""
    return method == "kto" or (method == "auto" and {row.label for row in rows} == {True, False})


def _records(source: Any, columns: Columns, blend: Blend) -> dict[int, dict[str, Any]]:
    """Return each record of the sources by its line."""
    return {
        part.before + number: record
        for one, part in zip(sources_of(source), blend.parts, strict=True)
        for number, record in records(one.data, (one.columns or columns).encoding)
        if not isinstance(record, Fault)
    }


def _unread_message(rows: Rows) -> str:
    first = next(iter(rows.unread))
    meaning = {"text": f"text=prompt,{first}=completion", "messages": f"{first}=system"}
    return (
        f"{rows.source}, read as {rows.format}, has columns with content that would not be read: "
        f"{format_values(rows.unread)}. Say what they are, as in "
        f"--map {meaning.get(rows.format, f'{first}=context')}, or train without them: "
        f"--ignore-columns {','.join(rows.unread)}"
        + ("; --map label=kto_tag if it marks answers as wanted" if "label" in rows.unread else "")
    )


def _desirable(rows: Rows) -> tuple[Rows, list[int]]:
    """Return the rows with a desirable answer, and the lines of the others."""
    undesirable = [row.line for row in rows if row.label is False]
    desirable = [row for row in rows if row.label is not False]
    if not desirable:
        raise DataError(
            f"{rows.source} says of each of its {len(rows)} answers that it is not wanted, so none "
            "can be learned by imitation; train on it with --method kto, or add wanted answers"
        )
    return dataclasses.replace(rows, rows=desirable), undesirable


def rows_of_run(record: Mapping[str, Any]) -> tuple[Rows, Rows] | None:
    """Return the rows that a run trained on and held out; None where the files are gone.

    Raises:
        DataError: its files can no longer be read.
    """
    settings = Settings.read(record["settings"])
    named = [settings.data, *([settings.held_out] if isinstance(settings.held_out, str) else ())]
    if settings.data is None or not all(p.exists() for data in named for p in files_of(data)):
        return None
    rows = read_and_split(settings.data, columns_of(settings.plain()), settings)
    return desirable(rows.train), desirable(rows.held_out)


def desirable(rows: Rows) -> Rows:
    """Return the rows without answers that are marked as undesirable: those a model is to give."""
    return dataclasses.replace(rows, rows=[row for row in rows if row.label is not False])


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


def learned_labels(path: Path | str) -> bool:
    """Return whether a run learned labels of texts, behind an instruction that `predict` puts there."""
    if not Run.is_at(path):
        return False
    data = Run.open(path).record.get("data") or {}
    return bool(data.get("format") == "classification")
