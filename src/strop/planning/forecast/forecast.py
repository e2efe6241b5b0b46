"""Memory and time of a run, with error bars."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

from strop.core.errors import ConfigError, spelt
from strop.core.progress import duration
from strop.core.units import time_in_seconds
from strop.planning.evaluations import checkpoint_interval
from strop.planning.forecast.devices import Device
from strop.planning.forecast.speed import Speed, speed
from strop.planning.forecast.work import MicroBatch, Work
from strop.planning.plan import Rows, StepPlan, TokenRow, micro_batches
from strop.planning.problems.methods import IMITATING
from strop.planning.product_cache import batches
from strop.planning.settings import Settings

SAMPLED = 24
"""Steps whose batches are drawn to see what a step costs."""
MEMORY_ERROR = 0.1
"""Share by which a predicted peak may be off."""
FEWEST_STEPS = 10
"""Steps below which a run is not worth its start."""


@dataclasses.dataclass(frozen=True, slots=True)
class Forecast:
    """What a run takes."""

    peak: int | None
    """Bytes of the process at its peak; None where that is not predicted."""
    peak_low: int | None
    peak_high: int | None
    step_seconds: float
    steps: int
    evaluation_seconds: float
    """Of all evaluations together."""
    seconds: float
    """Of training, evaluations and checkpoints included."""
    seconds_low: float
    seconds_high: float
    estimate: bool
    """The machine is not here, and nothing was timed."""

    @property
    def sentence(self) -> str:
        """Return the forecast in words."""
        kind = "estimated" if self.estimate else "predicted"
        return (
            f"{kind} {duration(self.step_seconds)} a step, {duration(self.seconds)} for "
            f"{self.steps:,} steps ({duration(self.seconds_low)} to {duration(self.seconds_high)})"
            + (
                f", evaluations {duration(self.evaluation_seconds)} of it"
                if self.evaluation_seconds
                else ""
            )
        )


def forecast(
    model: Any, rows: Rows, settings: Settings, plan: StepPlan, device: Device
) -> Forecast:
    """Return what a run takes.

    Args:
        model: a transformers model without its adapter; its weights are not looked at.
        rows: that the run trains on and measures.
        settings: of the run, nothing left open.
        plan: of a step.
        device: where it runs.
    """
    work = Work.of(model, settings.modules, settings.rank if settings.adapter == "lora" else 0)
    pace = speed(model, device)
    step = statistics.fmean(_step_seconds(pace, work, rows.train, settings, plan))
    per_epoch = math.ceil(len(rows.train) / settings.batch_size)
    steps = settings.max_steps or math.ceil(settings.epochs * per_epoch)
    times = 1 + math.ceil(steps / (settings.eval_every or per_epoch))
    measured = times * _evaluation_seconds(pace, work, rows.held_out, settings, plan)
    saved = math.ceil(steps / checkpoint_interval(settings, steps)) * pace.checkpoint(work)
    total = step * steps + measured + saved
    peak = plan.peak
    return Forecast(
        peak=peak,
        peak_low=None if peak is None else round(peak * (1 - MEMORY_ERROR)),
        peak_high=None if peak is None else round(peak * (1 + MEMORY_ERROR)),
        step_seconds=step,
        steps=steps,
        evaluation_seconds=measured,
        seconds=total,
        seconds_low=total * pace.low,
        seconds_high=total * pace.high,
        estimate=pace.estimate,
    )


def epochs_within(predicted: Forecast, settings: Settings, rows: int) -> float:
    """Return the epochs that the setting `time` leaves room for.

    Raises:
        ConfigError: it is too short for any; the text has the least that would do.
    """
    limit = time_in_seconds(settings.time or "") or math.inf
    step = predicted.seconds / predicted.steps
    steps = int(limit / step) if limit < math.inf else predicted.steps
    if steps < min(FEWEST_STEPS, predicted.steps):
        least = math.ceil(step * min(FEWEST_STEPS, predicted.steps))
        raise ConfigError(
            f"time is {settings.time}, and a step takes {duration(step)} with its share of the "
            f"evaluations: room for {steps} steps. {FEWEST_STEPS} need {duration(least)}; give "
            f"{spelt('time', f'{least}s')} or more, or a smaller {spelt('model')}"
        )
    if settings.max_steps is not None and steps < settings.max_steps:
        raise ConfigError(
            f"time is {settings.time}, which has room for {steps:,} steps of {duration(step)}, and "
            f"max_steps is {settings.max_steps:,}; leave one of them out"
        )
    return steps * settings.batch_size / rows


def _step_seconds(
    pace: Speed, work: Work, rows: Sequence[TokenRow], settings: Settings, plan: StepPlan
) -> list[float]:
    """Return the seconds of the first steps of the run."""
    recomputed = plan.activations != "keep"
    order = batches(len(rows), settings.batch_size, SAMPLED, settings.seed)
    # the model at the start, or a teacher, answers them too
    pairs = settings.method not in IMITATING or settings.method == "distill"
    seconds = []
    for numbers in order:
        parts = _parts([rows[i] for i in numbers], plan.micro_batch_tokens)
        again = recomputed or (pairs and len(parts) > 1)
        step = sum(pace.training(work, part, recomputed=again) for part in parts)
        if pairs:
            step += sum(pace.evaluation(work, part) for part in parts)
        seconds.append(pace.optimizer(work) + step)
    return seconds


def _evaluation_seconds(
    pace: Speed, work: Work, rows: Sequence[TokenRow], settings: Settings, plan: StepPlan
) -> float:
    size = settings.batch_size
    return sum(
        pace.evaluation(work, part)
        for first in range(0, len(rows), size)
        for part in _parts(rows[first : first + size], plan.micro_batch_tokens)
    )


def _parts(rows: Sequence[TokenRow], budget: int | None) -> list[MicroBatch]:
    return [MicroBatch.of(part) for part in micro_batches(rows, budget)]
