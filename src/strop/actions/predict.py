"""Answers to the rows of a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from strop.core.files import check_new
from strop.core.progress import Progress, silent


def predict(
    target: str,
    data: Path,
    out: Path,
    *,
    columns: Mapping[str, str | None] | None = None,
    progress: Progress = silent,
    **answering: Any,
) -> dict[str, Any]:
    """Write the rows of a file with an answer to each, and return what was written.

    Args:
        target: a run folder, a checkpoint or a model.
        data: a file of rows; no answers are needed.
        out: file to write.
        columns: settings `map`, `ignore_columns` and `instruction` of this file.
        progress: called while rows are answered.
        answering: fields of `strop.evaluation.answers.predict.Answering`.

    Raises:
        StropError: the run, the model, the data or the file to write cannot be used.
    """
    check_new(out, overwrite=answering.get("overwrite", False))  # before anything heavy is imported
    from strop.data.reading.columns import columns_of
    from strop.evaluation.answers import predict as prediction

    labels: Sequence[str] | None = answering.pop("labels", None)
    how = prediction.Answering(
        columns=columns_of(columns or {}), labels=labels, progress=progress, **answering
    )
    written = prediction.predict(target, data, out, how)
    return {
        "out": str(written.path),
        "rows": written.rows,
        "resumed": written.resumed,
        "columns": list(written.columns),
        "labels": written.labels and list(written.labels),
        "notes": list(written.notes),
    }
