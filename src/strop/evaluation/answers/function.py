"""Measures that a user writes in Python: `my_file.py:score`."""

import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from strop.core.errors import ConfigError
from strop.data.rows import Fault
from strop.evaluation.answers.named import Answered, mean_scores
from strop.evaluation.rows import unused
from strop.metrics.intervals import Scores


def function_of(named: str, option: str = "--metric") -> tuple[str, Callable[..., Any]]:
    """Return the name of a measure and its function, of `my_file.py:score`.

    Args:
        named: file and function.
        option: of the command line that names it.

    Raises:
        ConfigError: there is no such file or function, or the file cannot be run.
    """
    file, colon, name = named.rpartition(":")
    path = Path(file)
    if not colon or not name or path.suffix != ".py":
        raise ConfigError(f"{option} is {named!r}; write it as my_file.py:score")
    if not path.is_file():
        raise ConfigError(f"{option} {named}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise ConfigError(f"{option} {named}: {path} fails: {type(e).__name__}: {e}") from e
    function = getattr(module, name, None)
    if not callable(function):
        there = ", ".join(n for n, v in vars(module).items() if callable(v) and n[0] != "_")
        raise ConfigError(
            f"{option} {named}: {path} has no function {name}; it has {there or 'none'}"
        )
    return name, function


def scores_by_function(
    name: str, function: Callable[..., Any], answered: Sequence[Answered]
) -> tuple[Scores | None, list[str]]:
    """Return the mean of `function(answer, reference, record)`, and what it could not score.

    A row for which it raises, or returns no number, is left out and named; None leaves it out.
    """
    values: list[float] = []
    places: list[int] = []
    faults: list[Fault] = []
    for row in answered:
        try:
            value = function(row.answer, row.reference, dict(row.record))
            number = None if value is None else float(value)
        except Exception as e:  # noqa: BLE001 - the user's own function may raise anything
            faults.append(Fault(row.line, f"{name} raises {type(e).__name__}: {e}"))
            continue
        if number is None:
            continue
        if math.isfinite(number):
            values.append(number)
            places.append(row.place)
        else:
            faults.append(Fault(row.line, f"{name} returns {value!r}, which is no number"))
    scores = mean_scores(values, places, all(0 <= v <= 1 for v in values))
    if scores is not None and {*values} <= {0.0, 1.0}:
        scores = Scores(scores.sums, scores.value, share=True, right=True, rows=scores.rows)
    return scores, unused(faults)
