"""The plan of a run: settings with their reasons, what a step keeps, memory, time, alternatives."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from strop.core.errors import ConfigError, spelt
from strop.core.system.disk import format_size
from strop.core.system.heap import return_free_memory
from strop.models.precision import computes_in, described
from strop.planning.forecast.devices import Device, local_device
from strop.planning.forecast.forecast import Forecast, epochs_within, forecast
from strop.planning.machine import FreeMemory, free_memory
from strop.planning.plan import MemoryNow, Rows, StepPlan, plan_step
from strop.planning.problems.methods import IMITATING
from strop.planning.rules import BY_HAND, Choice, Task, choose
from strop.planning.settings import Settings

PREDICTED = (*IMITATING, "dpo", "ipo")
"""Methods whose steps only compute what the data has; others draw answers as well."""
LEAN = {"activations": "offload", "micro_batch_tokens": 1024}
"""Settings of the leanest step that is not much slower than it has to be."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """The machine that a run is planned for."""

    device: Device
    free: FreeMemory
    now: MemoryNow | None = None
    """Memory before the first step; None looks at this process, which has loaded the model."""


@dataclasses.dataclass(frozen=True, slots=True)
class Alternative:
    """The same run another way."""

    name: str
    """leaner or faster."""
    settings: Mapping[str, Any]
    """What is set otherwise."""
    peak: int | None
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run will do, and what it will take."""

    settings: Settings
    choices: tuple[Choice, ...]
    step: StepPlan | None
    """None without acceleration."""
    forecast: Forecast | None
    """None where nothing was predicted."""

    def sentences(self) -> Iterator[str]:
        """Yield the cost, and each setting with its value and reason, in columns."""
        if self.forecast is not None:
            yield self.forecast.sentence
        for name, value, reason, _ in table(self.choices):
            yield f"{name:23} {value:10} {reason}"

    def record(self) -> dict[str, Any]:
        """Return what run.json has of it beside the settings."""
        predicted = None if self.forecast is None else dataclasses.asdict(self.forecast)
        return {"choices": [dataclasses.asdict(c) for c in self.choices], "forecast": predicted}


def plan_run(
    model: Any,
    rows: Rows,
    facts: Mapping[str, Any],
    settings: Settings,
    explicit: Mapping[str, Any],
    place: Place,
    *,
    predict: bool = True,
) -> RunPlan:
    """Return the plan of a run on this model.

    Args:
        model: a transformers model without its adapter; its weights are not looked at.
        rows: that it trains on and measures.
        facts: of the data, as run.json has them.
        settings: of the run; the rules choose those that are not in `explicit`.
        explicit: settings that the caller set.
        place: where it will run.
        predict: the time as well, which may have to be measured.

    Raises:
        ConfigError: the time is too short for a run.
        UnsupportedError: the memory is too little for a step.
    """
    task = Task.of(
        facts,
        len(rows.train),
        model,
        modules=settings.modules,
        method=settings.method,
        memory=place.free.bytes,
        max_steps=settings.max_steps,
    )

    def planned(task: Task) -> RunPlan:
        chosen, choices = choose(settings, explicit, task)
        if not settings.accelerate:
            return RunPlan(chosen, tuple(choices), None, None)
        step = plan_step(model, rows.train, chosen, place.free, place.now)
        predicted = None
        if predict and settings.method in PREDICTED:
            predicted = forecast(model, rows, chosen, step, place.device)
        more = _of_the_step(chosen, step, facts, model)
        return RunPlan(chosen, (*choices, *more), step, predicted)

    predict = predict or settings.time is not None
    plan = planned(task)
    if settings.time is None:
        return plan
    if plan.forecast is None:
        raise ConfigError(
            f"time is {settings.time}, and the time of a run is predicted for methods "
            f"{', '.join(PREDICTED)} with accelerate; give max_steps instead"
        )
    most = epochs_within(plan.forecast, plan.settings, len(rows.train))
    if most >= plan.settings.epochs or settings.max_steps is not None:
        return plan
    if "epochs" in explicit:
        raise ConfigError(
            f"time is {settings.time}, which has room for {most:.2g} epochs, and epochs is "
            f"{settings.epochs:g}; leave one of them out, or give "
            f"{spelt('time', f'{math.ceil(plan.forecast.seconds)}s')}"
        )
    return planned(dataclasses.replace(task, most_epochs=most, time=settings.time))


def plan_here(
    model: Any,
    rows: Rows,
    facts: Mapping[str, Any],
    settings: Settings,
    explicit: Mapping[str, Any],
    *,
    predict: bool,
) -> RunPlan:
    """Return what `plan_run` does for a model that this process has loaded."""
    if settings.memory is not None:
        return_free_memory()
    place = Place(local_device(model.device), free_memory(model.device, settings.memory))
    return plan_run(model, rows, facts, settings, explicit, place, predict=predict)


def alternatives(model: Any, rows: Rows, plan: RunPlan, place: Place) -> Iterator[Alternative]:
    """Yield a leaner run, and a faster one of the same settings but for what it keeps or repeats."""
    if plan.step is None or plan.forecast is None:
        return
    if plan.step.peak is not None and plan.step.activations != "offload":
        yield _alternative("leaner", LEAN, model, rows, plan, place)
    settings = plan.settings
    if plan.step.activations != "keep" or plan.step.micro_batch_tokens is not None:
        roomy = dataclasses.replace(place, free=FreeMemory(1 << 50, "no limit"))
        yield _alternative("faster", {"activations": "keep"}, model, rows, plan, roomy)
    elif settings.max_steps is None and settings.epochs > 1:
        yield _alternative("faster", {"epochs": settings.epochs - 1}, model, rows, plan, place)
    elif settings.max_steps is None:
        yield _alternative("faster", {"epochs": settings.epochs / 2}, model, rows, plan, place)


def _alternative(
    name: str, changes: Mapping[str, Any], model: Any, rows: Rows, plan: RunPlan, place: Place
) -> Alternative:
    settings = dataclasses.replace(plan.settings, **changes)
    free = dataclasses.replace(place.free, strict=False)
    step = plan_step(model, rows.train, settings, free, place.now)
    predicted = forecast(model, rows, settings, step, place.device)
    return Alternative(name, changes, step.peak, predicted.seconds)


def _of_the_step(
    settings: Settings, step: StepPlan, facts: Mapping[str, Any], model: Any
) -> Iterator[Choice]:
    """Yield the settings that follow from memory, model and lengths."""
    weights = described(model)
    size = format_size(weights["bytes"])
    yield Choice("max_length", facts["max_length"], _length_reason(facts), "other rows")
    yield Choice(
        "bits",
        weights["bits"],
        f"{size} of weights; 4 bits a linear weight take the least"
        if weights["bits"] == 4
        else size,
        "--bits 16: exact weights, no fitting, more memory",
    )
    dtype = str(computes_in(model)).removeprefix("torch.")
    yield Choice("dtype", dtype, "in which a short step of the model is faster", "another machine")
    fits = f"the fastest that fits into {format_size(step.free)}"
    by_hand = settings.activations != "auto"
    yield Choice(
        "activations", step.activations, BY_HAND if by_hand else fits, "--memory, longer rows"
    )
    budget = step.micro_batch_tokens
    yield Choice(
        "micro_batch_tokens",
        budget,
        "each batch at once" if budget is None else "a batch in parts, with the same result",
        "--memory, --batch-size, longer rows",
    )


def _length_reason(facts: Mapping[str, Any]) -> str:
    longest, most = facts["longest_row"], facts["max_length"]
    if longest <= most:
        return f"the longest row has {longest:,} tokens, and nothing is cut"
    cut = len(facts["cut_lines"])
    what = f"{cut:,} rows are cut" if cut else "longer texts are divided"
    return f"the longest row has {longest:,} tokens; {what}"


def spoken(value: Any) -> str:
    """Return a value as the table shows it."""
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def table(choices: Iterable[Choice]) -> Iterator[tuple[str, str, str, str]]:
    """Yield setting, value, reason and what would change it, as texts."""
    for choice in choices:
        yield choice.setting, spoken(choice.value), choice.reason, choice.changed_by
