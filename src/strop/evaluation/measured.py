"""One model's outcomes on rows, and what they come to."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from strop.core.errors import DataError
from strop.data.rows import Fault, format_lines
from strop.evaluation.answers.choices import choice_scores
from strop.evaluation.answers.function import scores_by_function
from strop.evaluation.answers.generate import Generated, generated
from strop.evaluation.answers.named import Answered, scores_by_name
from strop.evaluation.labels import reasons, right_answer, unanswered
from strop.evaluation.outcomes import Outcome, score_rows, scores_of
from strop.evaluation.plan import Plan
from strop.evaluation.result import Difference, Evaluation, Verdicts
from strop.evaluation.rows import EvaluationRows, cluster_note, request_of, unused
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

    def noted(self, *notes: str) -> "Measured":
        """Return the same with more notes."""
        note = "; ".join(filter(None, (self.evaluation.note, *notes))) or None
        evaluation = dataclasses.replace(self.evaluation, note=note)
        return dataclasses.replace(self, evaluation=evaluation)


def measured(model: Any, tokenizer: Any, rows: EvaluationRows, plan: Plan, seed: int) -> Measured:
    """Measure a model on rows.

    Raises:
        DataError: no row has an answer to measure, and none is generated.
    """
    start = time.perf_counter()
    outcomes, faults = outcomes_of(model, tokenizer, rows, plan)
    seconds = round(time.perf_counter() - start, 3)
    return summary(rows.noted(*unused(faults)), plan, outcomes, seed, seconds)


def outcomes_of(
    model: Any, tokenizer: Any, rows: EvaluationRows, plan: Plan
) -> tuple[list[Outcome], list[Fault]]:
    """Return what a model does on each row, and why some rows cannot be measured.

    Raises:
        DataError: no row has an answer to measure, and none is generated.
    """
    progress = plan.metrics.progress
    outcomes, faults = [Outcome() for _ in rows.rows], list[Fault]()
    if plan.scored:
        outcomes, faults = score_rows(model, tokenizer, rows.rows, plan.labels, progress)
    if plan.choices:
        _score_choices(model, tokenizer, rows, outcomes, plan)
    if plan.places:
        chosen = [rows.rows[i] for i in plan.places]
        answers = generated(model, tokenizer, chosen, plan.max_new_tokens, progress)
        faults += [answer for answer in answers if isinstance(answer, Fault)]
        for i, answer in zip(plan.places, answers, strict=True):
            if isinstance(answer, Generated):
                outcomes[i].answer = answer.text
    if not any(outcome.tokens or outcome.answer is not None for outcome in outcomes):
        lines = format_lines(row.line for row in rows.rows)
        why = "; ".join(unused(faults)) or f"{lines} have no answer to measure"
        raise DataError(f"{rows.source}: {why}")
    return outcomes, faults


def _score_choices(
    model: Any, tokenizer: Any, rows: EvaluationRows, outcomes: Sequence[Outcome], plan: Plan
) -> None:
    flat = [row for question in rows.questions if question for row in question.rows]
    scored = iter(scores_of(model, tokenizer, flat, plan.metrics.progress))
    for question, outcome in zip(rows.questions, outcomes, strict=True):
        if question is None:
            continue
        of_choices = [next(scored) for _ in question.rows]
        tensors = [of for of in of_choices if isinstance(of, Tensor)]
        if len(tensors) == len(of_choices):
            outcome.choices = [(float(t.double().sum()), t.numel()) for t in tensors]


def answered_rows(rows: EvaluationRows, outcomes: Sequence[Outcome]) -> list[Answered]:
    """Return the rows to which a model generated an answer."""
    return [
        Answered(
            place,
            row.line,
            outcome.answer,
            None if unanswered(row) else right_answer(row),
            rows.records[place] if rows.records else {"messages": row.messages},
        )
        for place, (row, outcome) in enumerate(zip(rows.rows, outcomes, strict=True))
        if outcome.answer is not None
    ]


def _answer_scores(
    rows: EvaluationRows, plan: Plan, outcomes: Sequence[Outcome]
) -> tuple[dict[str, Scores], list[str]]:
    """Return the scores of generated answers, and what could not be scored."""
    answered = answered_rows(rows, outcomes)
    scores: dict[str, Scores] = {}
    notes: list[str] = []
    for name in plan.generated:
        if name in plan.functions:
            of_one, faults = scores_by_function(name, plan.functions[name], answered)
            notes += faults
        else:
            of_one = scores_by_name(name, answered, plan.alone)
        if of_one is not None:
            scores[name] = of_one
    if empty := [row.line for row in answered if not row.answer.strip()]:
        notes.append(f"{format_lines(empty)}: the model's answer is empty")
    if plan.generated and len(plan.places) < len(rows.rows):
        notes.append(f"answers were generated to {len(plan.places):,} rows, drawn at random")
    return scores, notes


def scores_of_rows(
    rows: EvaluationRows, plan: Plan, outcomes: Sequence[Outcome]
) -> tuple[dict[str, Scores], Choices | None, list[str]]:
    """Return the scores of each measure, the choices among labels, and notes on the rows."""
    scores = loss_scores(outcomes)
    references = [right_answer(row) for row in rows.rows]
    choices = Choices.of(references, outcomes, plan.labels) if plan.labels else None
    notes = [*rows.notes, *cluster_note(rows)]
    if lines := [row.line for row in rows.rows if unanswered(row)]:
        notes.append(f"{format_lines(lines)} without an answer: no loss")
    if choices is not None:
        scores |= choices.scores()
        if any(map(reasons, rows.rows)):
            notes.append(WITHOUT_REASONING)
    if plan.choices:
        scores |= choice_scores(rows.questions, [outcome.choices for outcome in outcomes])
    of_answers, remarks = _answer_scores(rows, plan, outcomes)
    return scores | of_answers, choices, notes + remarks


def summary(
    rows: EvaluationRows, plan: Plan, outcomes: Sequence[Outcome], seed: int, seconds: float
) -> Measured:
    """Return what a model's outcomes on rows come to."""
    scores, choices, notes = scores_of_rows(rows, plan, outcomes)
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
        calibration=None if choices is None else choices.calibration(),
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


def judged(
    first: Measured, second: Measured, rows: EvaluationRows, plan: Plan, seed: int
) -> tuple[Verdicts | None, list[str]]:
    """Return what the judge says of the second model's answers beside the first's, and its faults."""
    judge = plan.metrics.judge
    if judge is None:
        return None, []
    pairs = [answered_rows(rows, model.outcomes) for model in (first, second)]
    both = {row.place for row in pairs[0]} & {row.place for row in pairs[1]}
    one, other = ([row for row in answers if row.place in both] for answers in pairs)
    requests = [request_of(rows.rows[row.place]) for row in one]
    scores, faults = judge.prefer(one, other, requests, plan.metrics.progress)
    if scores is None:
        return None, unused(faults)
    values = scores.sums[:, 0].tolist()
    verdicts = Verdicts(
        win_rate=estimate(scores, rows.clusters, seed),
        wins=values.count(1.0),
        ties=values.count(0.5),
        losses=values.count(0.0),
        judge=judge.url,
    )
    return verdicts, unused(faults)
