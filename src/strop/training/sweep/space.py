"""Settings that a sweep tries: values of each, or a range."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from strop.core.errors import ConfigError
from strop.planning.settings import Settings

FIXED = ("data", "out", "seed", "held_out", "map", "ignore_columns", "instruction", "encoding")
"""Settings that decide which rows are held out: with others, losses are not compared on equal rows."""
BY_FACTORS = 10
"""Ratio of a range's ends from which its values are drawn evenly by factor, not by difference."""


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float

    @property
    def whole(self) -> bool:
        """True if both ends are whole numbers, and so all values are."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def log(self) -> bool:
        """True if values are drawn evenly by factor."""
        return self.low > 0 and self.high / self.low >= BY_FACTORS


Space = Mapping[str, Range | Sequence[Any]]
"""What each setting may be: a range, or a list of values."""


def check_space(space: Space, given: Mapping[str, Any]) -> None:
    """Refuse a space that no sweep can try.

    Args:
        space: what is tried.
        given: settings of all trials.

    Raises:
        ConfigError: lists every setting that is unknown, fixed, empty or out of its bounds.
    """
    faults = list(_faults(space, given))
    if faults:
        raise ConfigError("the sweep cannot be made:\n  " + "\n  ".join(faults))


def _faults(space: Space, given: Mapping[str, Any]) -> Iterator[str]:
    if not space:
        yield "over names no setting; write one as learning_rate=1e-4..1e-3 or rank=8,16,32"
    if given.get("held_out") == 0:
        yield "held_out is 0; trials are compared by the loss on held-out rows, so set it"
    for name, values in space.items():
        if name in FIXED:
            yield f"over has {name}, which decides the rows that trials are compared on"
            continue
        if name in given:
            yield f"{name} is swept over and set to {given[name]!r}; leave one of them out"
        ends = [values.low, values.high] if isinstance(values, Range) else list(values)
        if isinstance(values, Range) and not values.low < values.high:
            yield f"{name} goes from {values.low} to {values.high}; the first must be lower"
        if not ends:
            yield f"{name} has no value"
        for value in ends:
            try:
                Settings.read({**given, name: value})
            except ConfigError as e:
                yield str(e).partition("\n  ")[2] or str(e)


def grid(space: Space) -> list[dict[str, Any]] | None:
    """Return all combinations, if there is no range; else None."""
    lists = [values for values in space.values() if not isinstance(values, Range)]
    if len(lists) < len(space):
        return None
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*lists)]


def suggest(trial: Any, space: Space) -> dict[str, Any]:
    """Return the values that optuna chooses for a trial."""
    chosen: dict[str, Any] = {}
    for name, values in space.items():
        if not isinstance(values, Range):
            chosen[name] = trial.suggest_categorical(name, list(values))
        elif values.whole:
            chosen[name] = trial.suggest_int(name, values.low, values.high, log=values.log)
        else:
            number = trial.suggest_float(name, values.low, values.high, log=values.log)
            chosen[name] = float(f"{number:.3g}")
    return chosen


def plain(space: Space) -> dict[str, Any]:
    """Return a space as plain data."""
    return {
        name: {"low": values.low, "high": values.high} if isinstance(values, Range) else values
        for name, values in space.items()
    }


def read_space(over: Mapping[str, Any]) -> Space:
    """Return the space of plain data: lists, or `low` and `high` of a range."""
    return {
        name: Range(values["low"], values["high"]) if isinstance(values, Mapping) else list(values)
        for name, values in over.items()
    }
