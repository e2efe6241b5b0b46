"""Measures of a model on rows it has not seen, and of a run beside the model it started from."""

from collections.abc import Sequence
from typing import Any

from strop.data.reading.columns import Columns
from strop.evaluation.forgetting import retention_sets
from strop.evaluation.measured import Measured, differences, judged, measured, summary
from strop.evaluation.opening import (
    columns_for,
    labels_for,
    left_by_run,
    notes_of_training,
    opened,
    run_of,
    split_of,
)
from strop.evaluation.plan import SUITED, Metrics, Plan, plan_for
from strop.evaluation.recorded import recorded_base, write
from strop.evaluation.result import Comparison, Evaluation, Other
from strop.evaluation.rows import EvaluationRows, rows_of
from strop.evaluation.scores import corrected
from strop.runs import report
from strop.runs.run import Run


def evaluate(
    run_or_model: Any,
    data: Any = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    columns: Columns | None = None,
    metrics: Metrics = SUITED,
) -> Evaluation:
    """Measure loss, perplexity, and what suits the data: labels, choices or generated answers.

        loss = -(sum over answer tokens of log p) / (number of answer tokens)

    Answers are labels when at most 20 distinct ones serve all rows. The model's choice is then
    the label with the highest total log-probability of its tokens and the end token after it.
    Reasoning of a row counts in the loss; labels are scored without it, as it would tell them.
    Rows that cannot be used are named in the note, and the others measured.

    Args:
        run_or_model: a Run, its folder, a model's name or folder, or (model, tokenizer).
        data: what `strop.data.read` takes; for a run, read as the data it was trained on, and None
            takes the rows that it held out.
        limit: take only this many rows, drawn with `seed`; None takes all.
        seed: of the rows drawn and of the bootstrap.
        columns: how its columns are read, where not as those of the run's own data.
        metrics: what is measured beside the loss; by default what suits the data.

    Raises:
        DataError: no row has an answer, or no row can be used.
        ConfigError: there is no such run, model or column, or `limit` is below 1.
    """
    rows, plan = _planned(run_or_model, data, columns, metrics, limit=limit, seed=seed)
    return measured(*opened(run_or_model), rows, plan, seed).evaluation


def _planned(
    run_or_model: Any,
    data: Any,
    columns: Columns | None,
    metrics: Metrics,
    *,
    limit: int | None,
    seed: int,
) -> tuple[EvaluationRows, Plan]:
    """Return the rows to measure on and what is measured, for which a run's data is read once."""
    run = run_of(run_or_model)
    split = split_of(run, required=data is None)
    if data is None:
        rows = left_by_run(run, split, metrics.cluster).drawn(limit, seed)
    else:
        rows = rows_of(data, columns_for(run_or_model, columns)[0], metrics.cluster).drawn(
            limit, seed
        )
    trained = split[0].rows if split else []
    if data is not None and run is not None:
        rows = rows.noted(*notes_of_training(trained, rows))
    return rows, plan_for(rows, labels_for(trained, rows), metrics, limit, seed)


def compare(
    run: Run,
    data: Any = None,
    *,
    against: Sequence[Any] = (),
    limit: int | None = None,
    seed: int = 0,
    columns: Columns | None = None,
    metrics: Metrics = SUITED,
) -> Comparison:
    """Measure a run and the model it started from on the same rows; keep both in its folder.

    What the folder already holds for the same rows is not measured again for the base model.

    Args:
        run: a run with an adapter or a checkpoint.
        data: what `strop.data.read` takes; None takes the rows that the run held out.
        against: other runs, checkpoints and models to measure on the same rows.
        limit: as in `evaluate`.
        seed: as in `evaluate`.
        columns: as in `evaluate`.
        metrics: as in `evaluate`.

    Returns:
        The base model's evaluation, the tuned one's and their paired difference; they stand in
        evaluation.json and in report.html as well. With `against`, the others' too, and every
        difference corrected for their number.
    """
    rows, plan = _planned(run, data, columns, metrics, limit=limit, seed=seed)
    sets = retention_sets(metrics, seed)
    base = recorded_base(run, rows, plan)
    if base is not None:
        first = summary(rows, plan, base.outcomes, seed, base.seconds)
    before: dict[str, Measured] = {}
    if base is None or sets:
        model, tokenizer = run.load_base()
        if base is None:
            first = measured(model, tokenizer, rows, plan, seed)
        before = {name: measured(model, tokenizer, *of, seed) for name, of in sets.items()}
        del model
    model, tokenizer = run.load()
    tuned = measured(model, tokenizer, rows, plan, seed)
    after = {name: measured(model, tokenizer, *of, seed) for name, of in sets.items()}
    del model
    forgetting = {
        name: Comparison(
            before[name].evaluation,
            after[name].evaluation,
            differences(before[name], after[name], of[0], seed),
        )
        for name, of in sets.items()
    }
    others = [measured(*opened(other), rows, plan, seed) for other in against]
    verdicts, remarks = judged(first, tuned, rows, plan, seed)
    tuned = tuned.noted(*remarks)
    changes = corrected([differences(model, tuned, rows, seed) for model in (first, *others)])
    comparison = Comparison(
        first.evaluation,
        tuned.evaluation,
        changes[0],
        tuple(
            Other(str(other), model.evaluation, change)
            for other, model, change in zip(against, others, changes[1:], strict=True)
        ),
        verdicts,
        forgetting,
    )
    write(run, rows, plan, comparison, first, tuned)
    report.write(run)
    return comparison
