"""What is evaluated: runs, checkpoints and models; the rows and labels it is measured on."""

from pathlib import Path
from typing import Any

from strop.core.errors import ConfigError, DataError
from strop.data.reading.columns import Columns
from strop.data.rows import format_lines
from strop.evaluation.labels import label_set, right_answer, unanswered
from strop.evaluation.rows import EvaluationRows, content, rows_of, rows_of_run_split
from strop.models import load
from strop.training import Run
from strop.training.run_data import columns_of_run, rows_of_run


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


def rows_for(
    run_or_model: Any, source: Any, columns: Columns | None, cluster: str | None = None
) -> EvaluationRows:
    """Return the rows to measure on: those given, or those that a run held out.

    Rows that cannot be used are named in the notes.

    Raises:
        DataError: the rows cannot be read, or none can be used.
        ConfigError: no rows are given, and none were held out.
    """
    run = run_of(run_or_model)
    if source is None:
        return _left_by_run(run, cluster)
    if run is None:
        return rows_of(source, columns or Columns(), cluster)
    return rows_of(source, columns_of_run(run.record, columns), cluster)


def columns_for(run_or_model: Any, columns: Columns | None) -> tuple[Columns, str | None]:
    """Return how a file's columns are read, and the format of the data that a run was trained on."""
    run = run_of(run_or_model)
    if run is None:
        return columns or Columns(), None
    return columns_of_run(run.record, columns), run.record["data"]["format"]


def trained_labels(run_or_model: Any) -> list[str] | None:
    """Return the labels of the rows that a run was trained on; None where there are none."""
    return label_set(_trained_rows(run_of(run_or_model)))


def _left_by_run(run: Run | None, cluster: str | None) -> EvaluationRows:
    if run is None:
        raise ConfigError("only a run has held-out rows; name a file of rows to measure a model on")
    if cluster is not None:
        raise ConfigError(f"--cluster {cluster} is a column of a file of rows; name the file too")
    both = rows_of_run(run.record)
    if both is None or not len(both[1]):
        why = "held out no rows" if both else "was trained on rows that are no longer at hand"
        raise ConfigError(f"{run.path} {why}; name a file of rows to measure on")
    return rows_of_run_split(both[1].rows, both[1].source)


def labels_for(run_or_model: Any, rows: EvaluationRows) -> list[str] | None:
    """Return the labels of rows, or None where their answers are no labels.

    They are those of the rows and, where a run was trained on labelled rows, of these too.
    """
    trained = label_set(_trained_rows(run_of(run_or_model)))
    of_rows = label_set(rows.rows)
    if trained is None:
        return of_rows
    answers = {right_answer(row) for row in rows.rows if not unanswered(row)}
    if of_rows is None and not answers <= {*trained}:
        return None
    return sorted({*trained, *(of_rows or ())})


def _trained_rows(run: Run | None) -> list[Any]:
    """Return the rows that a run was trained on, as far as these are at hand."""
    try:
        both = rows_of_run(run.record) if run is not None else None
    except DataError:  # another file lies there now
        both = None
    return both[0].rows if both else []


def notes_of_training(run: Run, rows: EvaluationRows) -> list[str]:
    """Return what a user should know of rows that a run was trained on, and of new labels."""
    notes = []
    trained_rows = _trained_rows(run)
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
