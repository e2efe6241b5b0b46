"""Measures of generated answers, by name."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import regex
import torch

from strop.core.errors import ConfigError
from strop.metrics import json_answers, text
from strop.metrics.intervals import Scores, ratio
from strop.metrics.names import RIGHT_OR_WRONG, UNBOUNDED

LONGEST_MATCH = 5.0
"""Seconds after which a regular expression is given up for a row."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """One row and the answer to it."""

    place: int
    """Number of the row in the data, from 0."""
    line: int
    answer: str
    reference: str | None
    """The right answer, or None for a row without one."""
    record: Mapping[str, Any]
    """What the source has for the row."""


BESIDE_REFERENCE: dict[str, Callable[[str, str], float]] = {
    "exact_match": text.exact_match,
    "token_f1": text.token_f1,
    "rouge_l": text.rouge_l,
    "contains": text.contains,
    "number": text.number,
    "json_fields": json_answers.json_fields,
}
"""Measures of an answer beside the right one, each from 0 to 1."""

ALONE: dict[str, Callable[[str], float]] = {
    "json_valid": json_answers.json_valid,
    "length": lambda answer: float(len(text.words(answer))),
}
"""Measures of an answer alone."""


def scores_by_name(
    name: str, answered: Sequence[Answered], alone: Mapping[str, Callable[[str], float]]
) -> Scores | None:
    """Return the scores of answers by a measure, over the rows that have what it needs.

    Args:
        name: of the measure.
        answered: rows and answers.
        alone: further measures of an answer alone, such as `regex`.
    """
    of_answer = alone.get(name) or ALONE.get(name)
    if of_answer is not None:
        values = [of_answer(row.answer) for row in answered]
        return mean_scores(values, [row.place for row in answered], name not in UNBOUNDED, name)
    beside = [(row, row.reference) for row in answered if row.reference is not None]
    places = [row.place for row, _ in beside]
    if name == "chrf":
        if not beside:
            return None
        counts = [text.chrf_counts(row.answer, reference) for row, reference in beside]
        sums = torch.tensor(counts, dtype=torch.float64)
        return Scores(sums, text.chrf, share=True, rows=tuple(places))
    measure = BESIDE_REFERENCE[name]
    values = [measure(row.answer, reference) for row, reference in beside]
    return mean_scores(values, places, True, name)


def mean_scores(
    values: Sequence[float], places: Sequence[int], share: bool, name: str = ""
) -> Scores | None:
    """Return the mean of values over rows, or None without any."""
    if not values:
        return None
    first = torch.tensor(values, dtype=torch.float64)
    sums = torch.stack([first, torch.ones_like(first)], 1)
    right = name in RIGHT_OR_WRONG or name.startswith("rules")
    return Scores(sums, ratio, share=share, right=right, rows=tuple(places))


def matches(pattern: str) -> Callable[[str], float]:
    """Return a measure that is 1 for answers in which a regular expression matches.

    Raises:
        ConfigError: it is no regular expression.
    """
    try:
        compiled = regex.compile(pattern)
    except regex.error as e:
        raise ConfigError(f"--regex {pattern!r} is no regular expression: {e}") from e

    def measure(answer: str) -> float:
        try:
            return float(compiled.search(answer, timeout=LONGEST_MATCH) is not None)
        except TimeoutError:
            return 0.0

    return measure


def follows(schema: Any) -> Callable[[str], float]:
    """Return a measure that is 1 for answers in JSON that follow a JSON schema.

    Raises:
        UnsupportedError: jsonschema is not installed.
        ConfigError: it is no JSON schema.
    """
    from strop.core.errors import UnsupportedError

    try:
        import jsonschema
    except ImportError as e:
        raise UnsupportedError(
            "json_schema needs the package jsonschema; pip install 'strop[eval]'"
        ) from e
    kind = jsonschema.validators.validator_for(schema)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as e:
        raise ConfigError(f"--schema is no JSON schema: {e.message}") from e
    validator = kind(schema)

    def measure(answer: str) -> float:
        try:
            return float(validator.is_valid(json_answers.parsed_answer(answer)))
        except ValueError:
            return 0.0

    return measure
