"""The settings of a run with what nobody set chosen by the rules."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from strop.planning.rules import capacity, duration, rate
from strop.planning.rules.choice import Choice
from strop.planning.rules.task import IMITATING, Task
from strop.planning.settings import Settings


def choose(
    settings: Settings, explicit: Mapping[str, Any], task: Task
) -> tuple[Settings, list[Choice]]:
    """Return the settings with what the caller did not set, and for each setting its reason.

    Args:
        settings: of a new run.
        explicit: those that the caller set; they stay.
        task: data, model and machine.
    """
    choices: list[Choice] = []
    values: dict[str, Any] = {}

    def take(name: str, rule: Callable[[], Choice]) -> Any:
        by_hand = name in explicit
        choice = Choice.by_hand(name, getattr(settings, name)) if by_hand else rule()
        choices.append(choice)
        values[name] = choice.value
        return choice.value

    starts_elsewhere = settings.lora_init == "quantization_error"
    passes = take("epochs", lambda: duration.epochs(task))
    batch = take("batch_size", lambda: duration.batch_size(task, passes))
    per_epoch = math.ceil(task.rows / batch)
    steps = settings.max_steps or math.ceil(passes * per_epoch)
    if starts_elsewhere:  # its rank is that of the stored correction
        take("rank", lambda: Choice("rank", settings.rank, "of the stored start", "another start"))
    else:
        take("rank", lambda: capacity.rank(task))
    strength = take("alpha", capacity.alpha)
    usual, method = settings.learning_rate, task.method
    take(
        "learning_rate",
        lambda: (
            rate.method_rate(usual, method, strength)
            if task.method not in IMITATING
            else rate.learning_rate(task, batch_size=batch, steps=steps, alpha=strength)
        ),
    )
    take("warmup", lambda: rate.warmup(steps))
    take("schedule", rate.schedule)
    take("dropout", capacity.dropout)
    take("target_modules", capacity.target_modules)
    take(
        "eval_every",
        lambda: duration.evaluation_interval(task, steps=steps, per_epoch=per_epoch),
    )
    return dataclasses.replace(settings, **values), choices
