"""Evaluation of a run beside its base model and other models, or of one model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def evaluate(
    target: str,
    data: Path | None = None,
    *,
    against: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
    columns: Mapping[str, str | None] | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Measure a model on rows.

    Args:
        target: a run folder, a checkpoint or a model.
        data: a file of rows; None takes those that the run held out.
        against: other runs, checkpoints and models to measure on the same rows.
        limit: the most rows to take.
        seed: of the rows drawn.
        columns: settings `map`, `ignore_columns` and `instruction` of this file, where they are
            not those of the run's own data.
        cluster: the column of which rows with an equal value depend on one another.

    Returns:
        `base`, `tuned` and their `difference` for a run, with `against` for each other model its
        own measures and the difference to it; `model` for anything else.

    Raises:
        StropError: the run, the model or the data cannot be used.
    """
    from strop.data.reading.blend import check_files
    from strop.models.files.places import check_name

    if data is not None:
        check_files(str(data))
    if not Path(target).is_dir():
        check_name(target)
    from strop import evaluation
    from strop.core.errors import ConfigError
    from strop.data.reading.columns import columns_of
    from strop.evaluation.recorded import plain
    from strop.runs.run import Run

    read_as = columns_of(columns or {})
    how: dict[str, Any] = {"limit": limit, "seed": seed, "columns": read_as, "cluster": cluster}
    if not Run.is_at(target):
        if against:
            raise ConfigError(f"--against compares a run with others, and {target} is no run")
        return {"data": str(data), "model": evaluation.evaluate(target, data, **how).plain()}
    run = Run.open(target)
    comparison = evaluation.compare(run, data, against=against, **how)
    return {
        "data": "the run's held-out data" if data is None else str(data),
        "run": str(run.path),
        **plain(comparison),
    }
