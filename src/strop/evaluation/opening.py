"""What is evaluated: runs, checkpoints and models; the rows and labels it is measured on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from strop.core.errors import ConfigError, DataError
from strop.data import Row, Rows
from strop.data.reading.columns import Columns
from strop.data.rows import format_lines
from strop.evaluation.labels import label_set, right_answer, unanswered
from strop.evaluation.rows import EvaluationRows, content, rows_of_run_split
from strop.models import load
from strop.runs.run import Run
from strop.runs.run_data import columns_of_run, rows_of_run


def opened(run_or_model: Any) -> tuple[Any, Any]:
    """Return model and tokenizer of a Run, its folder, a checkpoint, a model's name or a pair."""
    if isinstance(run_or_model, tuple):
        return run_or_model
    run = run_of(run_or_model)
    if run is None:
        return load(str(run_or_model))
    return run.load(checkpoint_of(run_or_model))


def run_of(run_or_model: Any) -> Run | None:
    """Return the run that is named by its folder or by one of its checkpoints, or None."""
    if isinstance(run_or_model, Run):
        return run_or_model
    if not isinstance(run_or_model, (str, Path)):
        return None
    path = Path(run_or_model)
    folder = path if checkpoint_of(path) is None else path.parent.parent
    return Run.open(folder) if Run.is_at(folder) else None


def checkpoint_of(run_or_model: Any) -> Path | None:
    """Return the folder of a checkpoint, `RUN/checkpoints/NAME`, or None."""
    if not isinstance(run_or_model, (str, Path)):
        return None
    path = Path(run_or_model)
    inside = path.parent.name == "checkpoints" and Run.is_at(path.parent.parent)
    return path if inside and path.is_dir() else None


def split_of(run: Run | None, *, required: bool) -> tuple[Rows, Rows] | None:
    """Return the rows that a run trained on and held out, as far as these are at hand.

    Raises:
        DataError: they are required and can no longer be read.
    """
    try:
        return None if run is None else rows_of_run(run.record)
    except DataError:
        if required:
            raise
        return None  # another file lies there now


def columns_for(run_or_model: Any, columns: Columns | None) -> tuple[Columns, str | None]:
    """Return how a file's columns are read, and the format of the data that a run was trained on."""
    run = run_of(run_or_model)
    if run is None:
        return columns or Columns(), None
    return columns_of_run(run.record, columns), run.record["data"]["format"]


def trained_labels(run_or_model: Any) -> list[str] | None:
    """Return the labels of the rows that a run was trained on; None where there are none."""
    split = split_of(run_of(run_or_model), required=False)
    return label_set(split[0].rows) if split else None


def left_by_run(
    run: Run | None, split: tuple[Rows, Rows] | None, cluster: str | None
) -> EvaluationRows:
    """Return the rows that a run held out.

    Raises:
        ConfigError: there are none.
    """
    if run is None:
        raise ConfigError("only a run has held-out rows; name a file of rows to measure a model on")
    if cluster is not None:
        raise ConfigError(f"--cluster {cluster} is a column of a file of rows; name the file too")
    if split is None or not len(split[1]):
        why = "held out no rows" if split else "was trained on rows that are no longer at hand"
        raise ConfigError(f"{run.path} {why}; name a file of rows to measure on")
    return rows_of_run_split(split[1].rows, split[1].source)


def labels_for(trained_rows: Sequence[Row], rows: EvaluationRows) -> list[str] | None:
    """Return the labels of rows, or None where their answers are no labels.

    They are those of the rows and, where a run was trained on labelled rows, of these too.
    """
    trained = label_set(trained_rows)
    of_rows = label_set(rows.rows)
    if trained is None:
        return of_rows
    answers = {right_answer(row) for row in rows.rows if not unanswered(row)}
    if of_rows is None and not answers <= {*trained}:
        return None
    return sorted({*trained, *(of_rows or ())})


def notes_of_training(trained_rows: Sequence[Row], rows: EvaluationRows) -> list[str]:
    """Return what a user should know of rows that a run was trained on, and of new labels."""
    notes = []
    trained = {content(row) for row in trained_rows}
    if count := sum(content(row) in trained for row in rows.rows):
        notes.append(
            f"{count:,} of these {len(rows.rows):,} rows are among those that the run was trained "
            "on, so they say little of new ones"
        )
    known, labels = label_set(trained_rows), label_set(rows.rows)
    for label in sorted({*(labels or ())} - {*(known or labels or ())}):
        lines = [row.line for row in rows.rows if right_answer(row) == label]
        notes.append(
            f"no row that the run was trained on has the label {label!r} of {format_lines(lines)}"
        )
    return notes
