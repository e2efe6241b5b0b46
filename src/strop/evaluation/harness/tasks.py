"""Results of tasks of lm-evaluation-harness, of a run beside its base and of one model."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lm_eval import evaluator
from torch import Tensor

from strop.core.quiet import quiet
from strop.evaluation.harness.loading import Harness, load_tasks, named, no_notices, seeded
from strop.evaluation.harness.model import HarnessModel
from strop.evaluation.outcomes import inference_only
from strop.evaluation.result import Difference, Estimate
from strop.evaluation.scores import corrected, difference, estimate
from strop.metrics.intervals import Scores, ratio
from strop.metrics.significance import z_quantile

_RESAMPLES = 1000
"""Draws behind the standard error of measures that are no means."""


@dataclasses.dataclass(frozen=True, slots=True)
class TaskResults:
    """Measures of one model on tasks."""

    metrics: dict[str, Estimate]
    """By `TASK.METRIC`, with `.FILTER` after it where a task has several."""
    scores: dict[str, Scores]
    """Of each question, of the measures that are means over questions."""
    clusters: Tensor
    harness: dict[str, Any]
    """What the harness itself says of each task: values and standard errors."""
    lower_is_better: tuple[str, ...]
    questions: int
    seconds: float

    def plain(self) -> dict[str, Any]:
        """Return everything but the scores as plain data, each measure by its name."""
        metrics = {name: dataclasses.asdict(of_one) for name, of_one in self.metrics.items()}
        return {
            **metrics,
            "unbounded": [k for k, of in self.metrics.items() if not self._is_share(k, of)],
            "lower_is_better": list(self.lower_is_better),
            "rows": self.questions,
            "seconds": self.seconds,
            "harness": self.harness,
        }

    def _is_share(self, name: str, measured: Estimate) -> bool:
        if (scores := self.scores.get(name)) is not None:
            return scores.share
        return 0 <= measured.value <= 1 and name not in self.lower_is_better


def compare_on_tasks(
    models: Sequence[tuple[str, Callable[[], tuple[Any, Any]]]], harness: Harness, seed: int
) -> dict[str, Any]:
    """Return measures of several models on the same tasks, and what the second gains on each other.

    Args:
        models: names and how model and tokenizer of each are opened: a run's base, the run, others;
            or one model alone.
        harness: the tasks.
        seed: of the bootstrap.

    Returns:
        `model` for one alone; else `base`, `tuned`, `difference`, and `against` for further ones.

    Raises:
        StropError: a task is unknown, its data cannot be had, or it needs what strop does not do.
    """
    tasks = load_tasks(harness)  # before a model is opened: a wrong name is said at once
    results = [(name, _results(*opened(), harness, tasks, seed)) for name, opened in models]
    if len(results) == 1:
        return {"model": results[0][1].plain()}
    (_, base), (_, tuned), *others = results
    changes = corrected([_differences(of, tuned, seed) for of in (base, *(of for _, of in others))])
    plain = [{k: dataclasses.asdict(v) for k, v in change.items()} for change in changes]
    compared: dict[str, Any] = {
        "base": base.plain(),
        "tuned": tuned.plain(),
        "difference": plain[0],
    }
    if others:
        compared["against"] = [
            {"name": name, "model": of.plain(), "difference": change}
            for (name, of), change in zip(others, plain[1:], strict=True)
        ]
    return compared


def _results(model: Any, tokenizer: Any, harness: Harness, tasks: Any, seed: int) -> TaskResults:
    start = time.perf_counter()
    lm = HarnessModel(model, tokenizer, harness.progress)
    with quiet(), no_notices(), inference_only(model), named(harness.names), seeded():
        evaluated = evaluator.evaluate(
            lm,
            tasks,
            limit=harness.limit,
            apply_chat_template=harness.apply_chat_template,
            fewshot_as_multiturn=harness.apply_chat_template,
            bootstrap_iters=_RESAMPLES,
        )
    samples = evaluated["samples"]
    offsets, count = {}, 0
    for name, of_task in samples.items():
        offsets[name] = count
        count += len({sample["doc_id"] for sample in of_task})
    clusters = torch.arange(count)
    metrics: dict[str, Estimate] = {}
    scores: dict[str, Scores] = {}
    lower = []
    for task, of_task in evaluated["results"].items():
        for key, value in of_task.items():
            metric, comma, filtered = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            name = f"{task}.{metric}" + (f".{filtered}" if filtered != "none" else "")
            of_questions = _scores(samples.get(task, ()), metric, filtered, offsets.get(task, 0))
            if of_questions is not None and math.isclose(of_questions.total(), value):
                scores[name] = of_questions
                metrics[name] = estimate(of_questions, clusters, seed)
            else:
                metrics[name] = _by_error(value, of_task.get(f"{metric}_stderr,{filtered}"))
            if evaluated["higher_is_better"].get(task, {}).get(metric) is False:
                lower.append(name)
    seconds = round(time.perf_counter() - start, 3)
    plain = _plain(evaluated["results"])
    return TaskResults(metrics, scores, clusters, plain, tuple(lower), count, seconds)


def _scores(samples: Any, metric: str, filtered: str, offset: int) -> Scores | None:
    """Return a measure's value of each question, or None where it has no number of its own there."""
    places, values = [], []
    for sample in samples:
        if sample["filter"] != filtered or metric not in sample:
            continue
        if not isinstance(sample[metric], int | float):
            return None
        places.append(offset + sample["doc_id"])
        values.append(float(sample[metric]))
    if not values:
        return None
    sums = torch.tensor([[value, 1.0] for value in values], dtype=torch.float64)
    share = all(0 <= value <= 1 for value in values)
    right = all(value in (0.0, 1.0) for value in values)
    return Scores(sums, ratio, share=share, right=right, rows=tuple(places))


def _by_error(value: float, error: Any) -> Estimate:
    if not isinstance(error, int | float):
        return Estimate(value, None, None)
    half = z_quantile(0.975) * error
    return Estimate(value, value - half, value + half)


def _differences(first: TaskResults, second: TaskResults, seed: int) -> dict[str, Difference]:
    return {
        name: difference(first.scores[name], scores, second.clusters, seed)
        for name, scores in second.scores.items()
        if name in first.scores
    }


def _plain(results: dict[str, Any]) -> dict[str, Any]:
    return {
        task: {k: v for k, v in of_task.items() if isinstance(v, int | float | str)}
        for task, of_task in results.items()
    }
