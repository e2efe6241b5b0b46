"""The settings of a run with what nobody set chosen by the rules."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from strop.planning.problems.methods import IMITATING
from strop.planning.rewards import reinforced
from strop.planning.rules import capacity, duration, rate
from strop.planning.rules.choice import BY_HAND, Choice
from strop.planning.rules.task import Task
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

    def take(name: str, rule: Callable[[], Choice]) -> Choice:
        by_hand = name in explicit or name in settings.trainer
        given = settings.trainer.get(name, getattr(settings, name))
        choice = Choice.by_hand(name, given) if by_hand else rule()
        choices.append(choice)
        values[name] = choice.value
        return choice

    starts_elsewhere = settings.lora_init == "quantization_error"
    passes = take("epochs", lambda: duration.epochs(task)).value
    batch = take("batch_size", lambda: duration.batch_size(task, passes)).value
    drawn = settings.num_generations if reinforced(settings) else 1  # a batch counts answers
    per_epoch = math.ceil(task.rows * drawn / batch)
    steps = settings.max_steps or math.ceil(passes * per_epoch)
    usual, method = settings.learning_rate, task.method
    full, strength = settings.adapter == "none", float(rate.ALPHA)
    if not full:
        of_start = Choice("rank", settings.rank, "of the stored start", "another start")
        take("rank", lambda: of_start if starts_elsewhere else capacity.rank(task))
        strength = take("alpha", capacity.alpha).value

    def learning_rate() -> Choice:
        if full:
            return rate.full_learning_rate(task, usual, batch_size=batch)
        if method in IMITATING:
            return rate.learning_rate(task, batch_size=batch, steps=steps, alpha=strength)
        return rate.method_rate(usual, method, steps=steps, alpha=strength)

    take("learning_rate", learning_rate)
    take("warmup", lambda: rate.warmup(steps))
    take("schedule", rate.schedule)
    if not full:
        take("dropout", capacity.dropout)
        take("target_modules", capacity.target_modules)
    every = take(
        "eval_every",
        lambda: duration.evaluation_interval(task, steps=steps, per_epoch=per_epoch),
    ).value
    kept = take("load_best_model_at_end", lambda: duration.keep_best(task, steps / per_epoch))
    by_rule = kept.reason != BY_HAND and not {"epochs", "max_steps"} & explicit.keys()
    take(
        "early_stopping_patience",
        lambda: duration.patience(kept.value and by_rule, every=every, per_epoch=per_epoch),
    )
    return dataclasses.replace(settings, **values), choices
