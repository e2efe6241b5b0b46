"""Evaluation of a run beside its base model, or of one model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def evaluate(
    target: str,
    data: Path | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    columns: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Measure a model on rows; return `base` and `tuned` for a run, `model` for anything else.

    Args:
        target: a run folder or a model.
        data: a file of rows; None takes those that the run held out.
        limit: the most rows to take.
        seed: of the rows drawn.
        columns: settings `map`, `ignore_columns` and `instruction` of this file, where they are
            not those of the run's own data.

    Raises:
        StropError: the run, the model or the data cannot be used.
    """
    from strop import evaluation
    from strop.data.reading.columns import columns_of
    from strop.runs.run import Run

    read_as = columns_of(columns or {})
    if not Run.is_at(target):
        one = evaluation.evaluate(target, data, limit=limit, seed=seed, columns=read_as)
        return {"data": str(data), "model": one.plain()}
    run = Run.open(target)
    base, tuned = evaluation.compare(run, data, limit=limit, seed=seed, columns=read_as)
    return {
        "data": "the run's held-out data" if data is None else str(data),
        "run": str(run.path),
        "base": base.plain(),
        "tuned": tuned.plain(),
    }
