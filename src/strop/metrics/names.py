"""Names of measures, and how their values are written."""

from collections.abc import Iterable, Mapping
from typing import Any

LABEL_METRICS = ("accuracy", "macro_f1", "calibration_error")
"""Measures of rows whose answers are labels."""
CHOICE_METRICS = ("choice_accuracy", "choice_accuracy_per_byte", "choice_accuracy_per_token")
"""Share of questions whose likeliest choice is right: by log-probability, also by its length."""
BESIDE_REFERENCE = (
    "exact_match",
    "token_f1",
    "rouge_l",
    "chrf",
    "contains",
    "number",
    "json_fields",
)
"""Measures of a generated answer beside the right one."""
ALONE = ("json_valid", "length", "regex", "json_schema")
"""Measures of a generated answer alone."""
GENERATED = (*BESIDE_REFERENCE, *ALONE)
METRICS = ("loss", "perplexity", *LABEL_METRICS, *CHOICE_METRICS, *GENERATED)
"""Every measure that can be named."""
UNBOUNDED = ("loss", "perplexity", "length")
"""Measures that are no shares."""
RIGHT_OR_WRONG = ("exact_match", "contains", "number", "json_valid", "json_schema", "regex")
"""Measures of a generated answer that are 0 or 1."""
LOWER_IS_BETTER = ("loss", "perplexity", "calibration_error")
"""Measures of which less is better."""
WHILE_TRAINING = (
    "perplexity",
    *LABEL_METRICS,
    *(name for name in GENERATED if name not in ("regex", "json_schema")),
)
"""Measures that need nothing but rows, which a run takes at its evaluations beside the loss."""


def is_share(name: str, models: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a measure goes from 0 to 1, for all that models say of theirs."""
    return name not in UNBOUNDED and all(name not in of.get("unbounded", ()) for of in models)


def format_measure(measure: Mapping[str, Any], share: bool) -> str:
    """Return a value with its interval; a difference, which has a `p`, with its sign.

    Args:
        measure: `value`, `low` and `high`, the ends None where there is no interval.
        share: it goes from 0 to 1, and is written in percent.
    """
    sign = "+" if "p" in measure else ""
    unit = (" points" if sign else " %") if share else ""
    value, *ends = (
        f"{100 * number:{sign}.1f}" if share else f"{number:{sign}.3f}"
        for number in (measure["value"], measure["low"], measure["high"])
        if number is not None
    )
    return f"{value}{unit}" + (f"  ({ends[0]} to {ends[1]})" if ends else "")
