"""evaluation.json and evaluation_rows.jsonl of a run: what was measured, and each row's outcomes."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from strop.core.digest import file_digest
from strop.core.files import write_sealed, written_whole
from strop.evaluation.answers.named import Answered, mean_scores, scores_by_name
from strop.evaluation.labels import right_answer
from strop.evaluation.measured import Measured
from strop.evaluation.outcomes import Outcome
from strop.evaluation.plan import Plan
from strop.evaluation.result import Comparison, Difference
from strop.evaluation.rows import EvaluationRows, request_of
from strop.evaluation.scores import Choices, corrected, difference, loss_scores
from strop.metrics.intervals import Scores
from strop.metrics.names import LABEL_METRICS, UNBOUNDED
from strop.runs.log import read_evaluation_rows
from strop.runs.run import Run


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedBase:
    """Outcomes of the base model on the same rows, as an earlier evaluation recorded them."""

    outcomes: list[Outcome]
    seconds: float


def recorded_base(run: Run, rows: EvaluationRows, plan: Plan) -> RecordedBase | None:
    """Return the base model's outcomes on these rows, if the run's folder has all that are planned."""
    recorded = run.evaluation or {}
    same = (recorded.get("rows_sha256"), recorded.get("measured")) == (rows.sha256, plan.facts)
    file = run.evaluation_rows_file
    if not same or not file.is_file() or file_digest(file) != recorded.get("outcomes_sha256"):
        return None
    outcomes = [Outcome(**line["base"]) for line in read_evaluation_rows(file)]
    if len(outcomes) != len(rows.rows) or any(outcomes[i].answer is None for i in plan.places):
        return None
    return RecordedBase(outcomes, recorded["base"]["seconds"])


def write(
    run: Run,
    rows: EvaluationRows,
    plan: Plan,
    comparison: Comparison,
    base: Measured,
    tuned: Measured,
) -> None:
    """Write a comparison, and what base and tuned did on each row, into a run's folder."""
    with written_whole(run.evaluation_rows_file) as scratch:
        lines = (json.dumps(line, ensure_ascii=False) for line in _lines(rows, base, tuned))
        text = "".join(f"{line}\n" for line in lines)
        scratch.write_bytes(text.encode("utf-8", "backslashreplace"))  # half characters as JSON's
    record = {
        "data": rows.source,
        "rows_sha256": rows.sha256,
        "outcomes_sha256": file_digest(run.evaluation_rows_file),
        "measured": plan.facts,
        **plain(comparison),
    }
    write_sealed(run.evaluation_file, record)


def plain(comparison: Comparison) -> dict[str, object]:
    """Return a comparison as plain data."""
    against = [
        {
            "name": other.name,
            "model": other.evaluation.plain(),
            "difference": {k: dataclasses.asdict(v) for k, v in other.difference.items()},
        }
        for other in comparison.others
    ]
    forgetting = {name: plain(of_set) for name, of_set in comparison.forgetting.items()}
    return {
        "base": comparison.base.plain(),
        "tuned": comparison.tuned.plain(),
        "difference": {k: dataclasses.asdict(v) for k, v in comparison.difference.items()},
        **({"against": against} if against else {}),
        **({"forgetting": forgetting} if forgetting else {}),
        **({"judge": dataclasses.asdict(comparison.verdicts)} if comparison.verdicts else {}),
    }


def _lines(rows: EvaluationRows, base: Measured, tuned: Measured) -> Iterator[dict[str, Any]]:
    """Yield for each row what it asks, what is right, and what both models did."""
    scores = {
        name: (base.scores[name], of_tuned)
        for name, of_tuned in tuned.scores.items()
        if name in base.scores and name not in _OF_OUTCOMES
    }
    values = {name: tuple(map(_by_row, pair)) for name, pair in scores.items()}
    for place, row in enumerate(rows.rows):
        question = rows.questions[place] if rows.questions else None
        reference = right_answer(row)
        of_row = {
            name: [of_model[place] for of_model in pair]
            for name, pair in values.items()
            if all(place in of_model for of_model in pair)
        }
        yield {
            "line": row.line,
            "cluster": int(rows.clusters[place]),
            "request": request_of(row),
            **({} if reference is None else {"reference": reference}),
            **({} if question is None else {"choices": question.choices, "right": question.right}),
            "base": _filled(base.outcomes[place]),
            "tuned": _filled(tuned.outcomes[place]),
            **({"scores": of_row} if of_row else {}),
        }


_OF_OUTCOMES = ("loss", "perplexity", *LABEL_METRICS)
"""Measures that follow from the outcomes of the rows."""


def _by_row(scores: Scores) -> dict[int, float]:
    """Return the measure of each row alone, by its number."""
    values = scores.value(scores.sums)
    return dict(zip(scores.rows, values.tolist(), strict=True))


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedScores:
    """Scores of the tuned model on each row, as the run's folder has them."""

    scores: dict[str, Scores]
    clusters: Tensor
    """[B] number of each row's cluster."""


def recorded_scores(run: Run) -> RecordedScores | None:
    """Return the scores of the last evaluation of a run; None where its rows are not on file."""
    recorded, file = run.evaluation or {}, run.evaluation_rows_file
    if not file.is_file() or file_digest(file) != recorded.get("outcomes_sha256"):
        return None
    lines = read_evaluation_rows(file)
    if any("cluster" not in line for line in lines):
        return None
    outcomes = [Outcome(**line["tuned"]) for line in lines]
    scores = loss_scores(outcomes)
    if labels := recorded["measured"]["labels"]:
        references = [line.get("reference") for line in lines]
        choices = Choices.of(references, outcomes, labels)
        scores |= choices.scores() if choices else {}
    for name in dict.fromkeys(name for line in lines for name in line.get("scores", ())):
        of_name = _scores_of_lines(name, lines)
        scores |= {name: of_name} if of_name else {}
    return RecordedScores(scores, torch.tensor([line["cluster"] for line in lines]))


def _scores_of_lines(name: str, lines: Sequence[dict[str, Any]]) -> Scores | None:
    """Return the scores of a measure that the lines have of each row."""
    places = [place for place, line in enumerate(lines) if name in line.get("scores", ())]
    if name == "chrf":  # its value is no mean over rows
        answered = [
            Answered(
                i, lines[i]["line"], lines[i]["tuned"]["answer"], lines[i].get("reference"), {}
            )
            for i in places
        ]
        return scores_by_name(name, answered, {})
    values = [lines[place]["scores"][name][1] for place in places]
    share = name not in UNBOUNDED and all(0 <= value <= 1 for value in values)
    scores = mean_scores(values, places, share)
    right = share and {*values} <= {0.0, 1.0}
    return scores and dataclasses.replace(scores, right=right)


def differences_between(runs: Sequence[Run], seed: int = 0) -> list[dict[str, Difference] | None]:
    """Return of each run after the first its measures less the first's, paired row by row.

    Nothing is measured again. A run that was evaluated on other rows, or not at all, has None; the
    others are corrected for their number.

    Args:
        runs: at least one, in the order of a report.
        seed: of the bootstrap.
    """
    first, *others = runs
    scores = recorded_scores(first)
    rows = (first.evaluation or {}).get("rows_sha256")
    paired: list[Mapping[str, Difference] | None] = [
        None
        if scores is None or (run.evaluation or {}).get("rows_sha256") != rows
        else _differences(scores, recorded_scores(run), seed)
        for run in others
    ]
    adjusted = iter(corrected([of_one for of_one in paired if of_one is not None]))
    return [None if of_one is None else next(adjusted) for of_one in paired]


def _differences(
    first: RecordedScores, second: RecordedScores | None, seed: int
) -> dict[str, Difference] | None:
    if second is None:
        return None
    return {
        name: difference(first.scores[name], scores, first.clusters, seed)
        for name, scores in second.scores.items()
        if name in first.scores
    }


def _filled(outcome: Outcome) -> dict[str, object]:
    return {k: v for k, v in dataclasses.asdict(outcome).items() if v is not None}
