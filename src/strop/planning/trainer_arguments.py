"""The setting `trainer`: which of TRL's and transformers' training arguments a run takes."""

import difflib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from strop.planning.argument_tables import (
    BY_METHOD,
    DECIDED,
    FORMER,
    LOSSES,
    REFUSED,
    WITHOUT_EFFECT,
    WORKS,
)

_OFF: tuple[Any, ...] = (None, False, "", "none", "no", "never", [], {})
_AS_STROP_DOES: dict[str, tuple[Any, ...]] = {
    "assistant_only_loss": (None, True),
    "completion_only_loss": (None, True),
    "dataset_kwargs": (None, {}),
    "dataset_text_field": ("text",),
    "report_to": (None, "none", [], ["none"]),
    "truncation_mode": (None, "keep_start"),
}
_CHOICES = {
    "train_sampling_strategy": ("random", "sequential", "group_by_length"),
}
_OF_METHODS = {name: what for names in BY_METHOD.values() for name, what in names.items()}
_BY_STROP = (
    "greater_is_better",
    "load_best_model_at_end",
    "metric_for_best_model",
    "save_total_limit",
)


def problems(given: Mapping[str, Any], method: str = "sft") -> Iterator[str]:
    """Yield a sentence for each argument of the setting `trainer` that a run cannot take.

    Args:
        given: the arguments.
        method: of the run, or auto.
    """
    for name, value in given.items():
        if name in DECIDED:
            yield f"trainer.{name} is decided by a setting of strop; use {DECIDED[name]}"
        elif name in REFUSED:
            if not _among(value, _AS_STROP_DOES.get(name, _OFF)):
                yield f"trainer.{name} is {value!r}, which a run does not take: {REFUSED[name]}"
        elif name in FORMER:
            yield f"trainer.{name} is a name of earlier versions; use {FORMER[name]}"
        elif not any(name in table for table in (WORKS, WITHOUT_EFFECT, _OF_METHODS)):
            near = difflib.get_close_matches(
                name, [*WORKS, *_OF_METHODS, *REFUSED, *WITHOUT_EFFECT], 1
            )
            hint = f"did you mean {near[0]}?" if near else "docs/settings.md lists those that work"
            yield f"trainer.{name} is not an argument of TRL's trainers that strop knows; {hint}"
    for name, choices in _CHOICES.items():
        if given.get(name) not in (None, *choices):
            yield f"trainer.{name} is {given[name]!r}; it must be {' or '.join(choices)}"
    yield from _loss_problems(given, method)
    yield from _checkpoint_problems(given)


def _loss_problems(given: Mapping[str, Any], method: str) -> Iterator[str]:
    """Yield what is wrong with the loss for the method."""
    for name in given:
        if method == "auto" or name in WORKS or name in BY_METHOD[method]:
            continue
        if takers := [taker for taker, names in BY_METHOD.items() if name in names]:
            yield (
                f"trainer.{name} is an argument of method {' and '.join(takers)}, and the method is "
                f"{method}"
            )
    losses = [*itertools.chain(*(LOSSES.values() if method == "auto" else [LOSSES[method]]))]
    loss = given.get("loss_type")
    for value in loss if isinstance(loss, list) else [loss]:
        if value not in (None, *losses):
            allowed = " or ".join(losses) if losses else "left out, as the method decides it"
            yield f"trainer.loss_type is {value!r}; with method {method} it must be {allowed}"


def _checkpoint_problems(given: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the arguments about checkpoints, which strop itself serves."""
    best = given.get("load_best_model_at_end")
    if best not in (None, True, False):
        yield f"trainer.load_best_model_at_end is {best!r}; it must be true or false"
    limit = given.get("save_total_limit")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        yield f"trainer.save_total_limit is {limit!r}; it must be a whole number, at least 1"


def passed_on(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that TRL's trainer is to have."""
    return {
        n: value
        for n, value in given.items()
        if n in {**WORKS, **_OF_METHODS} and n not in _BY_STROP
    }


def without_effect(given: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each argument that a run has no use for."""
    return [
        f"trainer.{name} does not matter here: {WITHOUT_EFFECT[name]}"
        for name in given
        if name in WITHOUT_EFFECT
    ]


def _among(value: Any, values: tuple[Any, ...]) -> bool:
    """Say whether a value is one of some, where 0 is not False."""
    return any(type(value) is type(other) and value == other for other in values)
