"""Measures of the held-out rows at each evaluation of a run: which, on how many rows, at what cost."""

import dataclasses
import logging
import math
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from strop.core.errors import ConfigError, DataError
from strop.core.tokens import IGNORE_INDEX
from strop.evaluation.measured import outcomes_of, scores_of_rows
from strop.evaluation.opening import labels_for
from strop.evaluation.plan import Metrics, Plan, plan_for
from strop.evaluation.rows import EvaluationRows, rows_of_run_split
from strop.metrics.names import GENERATED, LABEL_METRICS
from strop.planning import evaluations
from strop.planning.settings import Settings
from strop.runs.run import Run
from strop.runs.run_data import SplitRows, desirable
from strop.training.callbacks.log import RunLog
from strop.training.dataset import TrainingData
from strop.training.trainer import steps

logger = logging.getLogger("strop")

SHARE = 0.1
"""Most of a run's time that measuring may take."""
UNNOTICED = 10.0
"""Seconds of measuring in a whole run from which its share of the time counts."""
FEW = 30
"""Rows below which shares of two evaluations differ by chance: by 0.2 and more where 0.5 are right."""
TRAINED_PASSES = 2
"""Forward passes that training a token costs: one, and backward to the inputs of frozen weights."""
GENERATED_PASSES = 8
"""Forward passes over a prompt's token that one generated token costs, about: 12 alone, 3 in batches of
16, timed on a CPU; the clock corrects it, see `EvalMetrics`."""


class EvalMetrics:
    """Measures of held-out rows, on a sample that is the same at every evaluation.

    The sample's size follows from counts alone, so that equal runs measure equal rows:

        evaluations * rows * passes a row <= SHARE * training tokens * TRAINED_PASSES

    Where the clock says that measuring takes more, later evaluations take fewer rows, which is
    said and recorded.

    Args:
        rows: all that the run holds out.
        plan: what is measured.
        names: of the measures.
        size: number of rows that are measured.
        settings: of the run.
    """

    def __init__(
        self,
        rows: EvaluationRows,
        plan: Plan,
        names: Sequence[str],
        size: int,
        settings: Settings,
    ) -> None:
        self.names = tuple(names)
        self.size = size
        self._rows = rows
        self._plan = plan
        self._bounded = settings.eval_rows is None
        self._order = random.Random(settings.seed).sample(range(len(rows.rows)), len(rows.rows))
        self._fewer: list[tuple[int, int]] = []
        self._run: Run | None = None
        self._log: RunLog | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json has of the measures."""
        return {"metrics": list(self.names), "rows": self.size, "of": len(self._rows.rows)}

    @property
    def sentence(self) -> str:
        """What is measured at each evaluation, and on how many rows."""
        total = len(self._rows.rows)
        sentence = f"at each evaluation {', '.join(self.names)} of {_of(self.size, total)}"
        if self.size < min(FEW, total):
            sentence += "; on so few, chance decides: --eval-rows takes more, --eval-every is rarer"
        return sentence

    def begin(self, run: Run, log: RunLog) -> None:
        """Take the number of rows that a resumed run has measured from its record.

        Args:
            run: whose record has it.
            log: of the run, whose clock counts.
        """
        recorded = run.record.get("eval_metrics", {}) if run.record_file.is_file() else {}
        self.size = recorded.get("rows", self.size)
        self._fewer = [(step, rows) for step, rows in recorded.get("fewer", ())]
        self._run, self._log = run, log

    def measure(self, model: Any, tokenizer: Any, step: int) -> dict[str, float]:
        """Return each measure after an optimizer step, the rows it is of, and the seconds it took.

        No random number of the training is drawn, and the model is afterwards as it was.

        Raises:
            DataError: before the first step, no row can be measured.
        """
        started = time.perf_counter()
        rows = self._rows.at(sorted(self._order[: self._rows_at(step)]))
        values: dict[str, float] = {}
        devices = [model.device.index or 0] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            try:
                values = _values(model, tokenizer, rows, self._plan, self.names)
            except DataError as e:
                if step == 0:
                    raise
                logger.warning("after step %d nothing was measured: %s", step, e)
        seconds = time.perf_counter() - started
        self._bound(step, seconds)
        return {**values, "metrics_rows": len(rows.rows), "metrics_seconds": round(seconds, 3)}

    def _rows_at(self, step: int) -> int:
        return next((rows for since, rows in reversed(self._fewer) if since <= step), self.size)

    def _bound(self, step: int, seconds: float) -> None:
        """Take fewer rows from the next step on, if measuring takes more than its share of the time."""
        if self._log is None or self._run is None or not self._bounded or step == 0:
            return
        if self._fewer and self._fewer[-1][0] > step:
            return  # a resumed run repeats this evaluation
        spent, rows = self._log.metrics_seconds + seconds, self._rows_at(step)
        share = spent / max(self._log.seconds, spent)
        if share <= SHARE or spent < UNNOTICED or rows == 1:
            return
        fewer = max(1, math.floor(rows * SHARE / share))
        self._fewer.append((step + 1, fewer))
        self._run.update(eval_metrics={**self.facts, "fewer": self._fewer})
        logger.warning(
            "measuring %s took %.0f %% of the time so far, so from now on it is done on %s",
            ", ".join(self.names),
            100 * share,
            _of(fewer, len(self._rows.rows)),
        )


def eval_metrics(
    split: SplitRows, data: TrainingData[Any], settings: Settings
) -> EvalMetrics | None:
    """Return what a run measures beside the loss at its evaluations; None for nothing.

    Args:
        split: the rows of the run.
        data: the same as tokens.
        settings: of the run.

    Raises:
        ConfigError: a measure that is named does not fit the rows.
    """
    if not data.evaluates:
        return None
    held_out = desirable(split.held_out)
    if not held_out.rows:
        return None
    rows = rows_of_run_split(held_out.rows, held_out.source)
    labels = labels_for(split.train.rows, rows)
    names = _names(rows, labels, settings)
    if not names:
        return None
    plan = plan_for(rows, labels, Metrics(names=names), None, settings.seed)
    generated = [name for name in names if name in GENERATED]
    if generated and not plan.places:
        raise ConfigError(
            f"eval_metrics has {', '.join(generated)}, but {rows.source} is plain text, which asks for no "
            "answer; take perplexity"
        )
    plan = dataclasses.replace(plan, scored=plan.labels is not None or "perplexity" in names)
    size = min(settings.eval_rows or _affordable(data, plan, settings), len(rows.rows))
    return EvalMetrics(rows, plan, names, size, settings)


def _names(rows: EvaluationRows, labels: list[str] | None, settings: Settings) -> list[str]:
    by_data = evaluations.chosen_by_data(settings)
    named = evaluations.metric_names(settings)
    suited: Sequence[str] = ()
    if by_data is not None and labels is not None:
        suited = LABEL_METRICS
    elif by_data == evaluations.AUTO:
        suited = plan_for(rows, labels, Metrics(), None, settings.seed).generated
    return list(dict.fromkeys((*suited, *named)))


def _affordable(data: TrainingData[Any], plan: Plan, settings: Settings) -> int:
    """Return the number of rows that all evaluations together measure in `SHARE` of the time."""
    tokens = statistics.fmean(map(len, data.token_ids))
    answers = statistics.fmean(sum(x != IGNORE_INDEX for x in row) for row in data.labels)
    per_epoch, total = steps(settings, len(data.train))
    row = 0.0
    if plan.scored:
        row += tokens + (len(plan.labels or [""]) - 1) * answers
    if plan.places:
        row += tokens + GENERATED_PASSES * plan.max_new_tokens
    trained = TRAINED_PASSES * tokens * total * min(settings.batch_size, len(data.train))
    count = 1 + math.ceil(total / (settings.eval_every or per_epoch))
    return max(1, math.floor(SHARE * trained / (count * row)))


def _values(
    model: Any, tokenizer: Any, rows: EvaluationRows, plan: Plan, names: Sequence[str]
) -> dict[str, float]:
    """Return the measures of a model on rows, those left out that none of them has."""
    places = [i for i, row in enumerate(rows.rows) if row.messages is not None]
    plan = dataclasses.replace(plan, places=tuple(places) if plan.places else ())
    outcomes, _ = outcomes_of(model, tokenizer, rows, plan)
    scores, _, _ = scores_of_rows(rows, plan, outcomes)
    totals = {name: scores[name].total() for name in names if name in scores}
    return {name: value for name, value in totals.items() if math.isfinite(value)}


def _of(rows: int, total: int) -> str:
    if rows == total:
        return f"all {total:,} held-out rows"
    return f"{rows:,} of {total:,} held-out rows, drawn by the seed"


def share_sentence(record: Mapping[str, Any]) -> str:
    """Return a sentence about the time that measuring took, or nothing."""
    measured = record["measured"]
    seconds = measured.get("metrics_seconds")
    if not seconds:
        return ""
    share = 100 * seconds / max(measured["seconds"], seconds)
    return (
        f"measuring {', '.join(record['eval_metrics']['metrics'])} took {share:.1f} % of the time"
    )
