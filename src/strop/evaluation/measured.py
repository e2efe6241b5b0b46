"""One model's outcomes on rows, and what they come to."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from strop.core.errors import DataError
from strop.data.rows import format_lines
from strop.evaluation.labels import reasons, unanswered
from strop.evaluation.outcomes import Outcome, score_rows
from strop.evaluation.result import Difference, Evaluation
from strop.evaluation.rows import EvaluationRows, unused
from strop.evaluation.scores import Choices, difference, estimate, loss_scores
from strop.metrics.intervals import Scores

WITHOUT_REASONING = "labels are scored without the reasoning of the rows, which would tell them"
"""Note on an accuracy on rows that have some."""


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """A model's evaluation, and the scores and outcomes of each row behind it."""

    evaluation: Evaluation
    scores: Mapping[str, Scores]
    outcomes: Sequence[Outcome]


def measured(
    model: Any, tokenizer: Any, rows: EvaluationRows, labels: Sequence[str] | None, seed: int
) -> Measured:
    """Measure a model on rows.

    Raises:
        DataError: no row has an answer to measure.
    """
    start = time.perf_counter()
    outcomes, faults = score_rows(model, tokenizer, rows.rows, labels)
    if not any(outcome.tokens for outcome in outcomes):
        reasons_given = "; ".join(unused(faults))
        lines = format_lines(row.line for row in rows.rows)
        raise DataError(f"{rows.source}: {reasons_given or f'{lines} have no answer to measure'}")
    seconds = round(time.perf_counter() - start, 3)
    return summary(rows.noted(*unused(faults)), labels, outcomes, seed, seconds)


def summary(
    rows: EvaluationRows,
    labels: Sequence[str] | None,
    outcomes: Sequence[Outcome],
    seed: int,
    seconds: float,
) -> Measured:
    """Return what a model's outcomes on rows come to."""
    scores = loss_scores(outcomes)
    choices = Choices.of(rows, outcomes, labels) if labels else None
    notes = list(rows.notes)
    if lines := [row.line for row in rows.rows if unanswered(row)]:
        notes.append(f"{format_lines(lines)} without an answer not measured")
    if choices is not None:
        scores |= choices.scores()
        if any(map(reasons, rows.rows)):
            notes.append(WITHOUT_REASONING)
    places = {place for of_one in scores.values() for place in of_one.rows}
    if len(rows.clusters[sorted(places)].unique()) < 2:
        notes.append("one row, or rows of one cluster, say nothing about others: no interval")
    classes = {} if choices is None else choices.per_class()
    evaluation = Evaluation(
        rows=len(places),
        tokens=sum(outcome.tokens for outcome in outcomes),
        metrics={name: estimate(of_one, rows.clusters, seed) for name, of_one in scores.items()},
        per_class={
            label: {name: estimate(s, rows.clusters, seed) for name, s in of_label.items()}
            for label, of_label in classes.items()
        }
        or None,
        confusion=None if choices is None else choices.confusion(),
        seconds=seconds,
        note="; ".join(notes) or None,
    )
    return Measured(evaluation, scores, outcomes)


def differences(
    first: Measured, second: Measured, rows: EvaluationRows, seed: int
) -> dict[str, Difference]:
    """Return the second's measures less the first's, of each that both have."""
    return {
        name: difference(first.scores[name], scores, rows.clusters, seed)
        for name, scores in second.scores.items()
        if name in first.scores
    }
