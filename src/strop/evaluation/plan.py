"""What is measured on rows: as named, or as suits the data."""

import dataclasses
import difflib
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from strop.core.errors import ConfigError
from strop.core.progress import Progress, silent
from strop.evaluation.answers.function import function_of
from strop.evaluation.answers.generate import MOST_TOKENS
from strop.evaluation.answers.judge import Judge
from strop.evaluation.answers.named import follows, matches
from strop.evaluation.answers.rules import Rules
from strop.evaluation.labels import right_answer
from strop.evaluation.rows import EvaluationRows
from strop.metrics.json_answers import parsed_answer
from strop.metrics.names import CHOICE_METRICS, GENERATED, LABEL_METRICS, METRICS
from strop.metrics.text import ends_in_number, words

MOST_GENERATED = 200
"""Rows to which answers are generated where no metrics are named."""
_LONGEST = 512
_SHORT = 6
"""Words up to which an answer is short."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What is to be measured beside the loss; the defaults are what suits the data."""

    names: Sequence[str] | None = None
    """Names of measures, of `METRICS`; None takes those that suit the data."""
    regex: str | None = None
    """Regular expression that is looked for in answers."""
    schema: Any = None
    """JSON schema that answers should follow."""
    rules: Rules | None = None
    """Rules of voice and form that answers should follow."""
    functions: Sequence[str] = ()
    """Functions of the user, as `my_file.py:score`."""
    judge: Judge | None = None
    """A model that compares the answers of base and tuned."""
    max_new_tokens: int | None = None
    """Longest generated answer; None takes what the right answers need."""
    forgetting: bool = False
    """True to measure packaged general texts and questions too, of a run beside its base."""
    retain: Path | None = None
    """Rows of the user's that a run should not forget, measured beside its base too."""
    cluster: str | None = None
    """Column of which rows with an equal value depend on one another."""
    progress: Progress = silent
    """Called while rows are scored and answers generated."""

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            ConfigError: lists every name that is not known, and what a measure lacks.
        """
        wrong = []
        for name in self.names or ():
            if name not in METRICS:
                near = difflib.get_close_matches(name, METRICS, 1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(METRICS)}"
                wrong.append(f"{name} is no metric; {hint}")
        if "regex" in (self.names or ()) and self.regex is None:
            wrong.append("regex needs --regex PATTERN")
        if "json_schema" in (self.names or ()) and self.schema is None:
            wrong.append("json_schema needs --schema FILE")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            wrong.append(f"--max-tokens is {self.max_new_tokens}; it must be at least 1")
        if wrong:
            raise ConfigError("the metrics cannot be used:\n  " + "\n  ".join(wrong))


SUITED = Metrics()
"""What suits the data."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured on some rows."""

    labels: list[str] | None
    """Labels whose likelihood is compared; None for none."""
    choices: bool
    """True if the choices of each question are compared."""
    generated: tuple[str, ...]
    """Measures of generated answers."""
    places: tuple[int, ...]
    """Rows to which answers are generated."""
    max_new_tokens: int
    alone: Mapping[str, Callable[[str], float]]
    """Measures of an answer alone that the user described."""
    functions: Mapping[str, Callable[..., Any]]
    metrics: Metrics
    scored: bool = True
    """True to compute the log-probabilities of right answers and labels."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the outcomes of a model depend on, as plain data."""
        tokens = self.max_new_tokens if self.places else None
        return {"labels": self.labels, "max_new_tokens": tokens, "choices": self.choices}


def plan_for(
    rows: EvaluationRows, labels: list[str] | None, metrics: Metrics, limit: int | None, seed: int
) -> Plan:
    """Return what is measured on rows.

    Args:
        rows: to measure on.
        labels: of the rows, or None where answers are no labels.
        metrics: what the user names.
        limit: as the user gives it; without it and without names few answers are generated.
        seed: of the rows drawn.

    Raises:
        ConfigError: a named measure does not fit the rows, or a described one cannot be used.
    """
    names = metrics.names
    of_labels = [name for name in names or () if name in LABEL_METRICS]
    of_choices = [name for name in names or () if name in CHOICE_METRICS]
    if of_labels and labels is None:
        count = len({right_answer(row) for row in rows.rows} - {None})
        raise ConfigError(
            f"{', '.join(of_labels)}: the answers are no labels; {rows.source} has {count:,} "
            "different ones; take exact_match instead"
        )
    if of_choices and not any(rows.questions):
        raise ConfigError(f"{', '.join(of_choices)}: {rows.source} has no column of choices")
    described = _described(metrics)
    functions = dict(map(function_of, metrics.functions))
    if names is None:
        suited = [] if labels is not None else list(_suited(rows))
    else:
        suited = [name for name in names if name in GENERATED]
    generated = dict.fromkeys((*suited, *described, *functions))
    if metrics.judge is not None or generated:
        places = [i for i, row in enumerate(rows.rows) if row.messages is not None]
        few = names is None and limit is None and not described and not functions
        if few and len(places) > MOST_GENERATED:
            places = sorted(random.Random(seed).sample(places, MOST_GENERATED))
    else:
        places = []
    return Plan(
        labels=labels if names is None or of_labels else None,
        choices=bool(any(rows.questions) if names is None else of_choices),
        generated=tuple(generated),
        places=tuple(places),
        max_new_tokens=metrics.max_new_tokens or _tokens_needed(rows),
        alone=described,
        functions=functions,
        metrics=metrics,
    )


def _described(metrics: Metrics) -> dict[str, Callable[[str], float]]:
    """Return the measures that a pattern, a schema and rules describe."""
    alone: dict[str, Callable[[str], float]] = {}
    if metrics.regex is not None:
        alone["regex"] = matches(metrics.regex)
    if metrics.schema is not None:
        alone["json_schema"] = follows(metrics.schema)
    if metrics.rules is not None:
        checks = metrics.rules.checks()
        alone["rules"] = lambda answer: float(all(check(answer) for check in checks.values()))
        for name, check in checks.items():
            alone[f"rules.{name}"] = lambda answer, check=check: float(check(answer))  # type: ignore[misc]
    return alone


def _suited(rows: EvaluationRows) -> Sequence[str]:
    """Return the measures of generated answers that suit the right answers."""
    answers = [answer for row in rows.rows if (answer := right_answer(row)) is not None]
    if not answers:
        return ["length"] if any(row.messages for row in rows.rows) else []
    if all(map(_is_object, answers)):
        return ["json_valid", "json_fields", "exact_match"]
    if all(map(ends_in_number, answers)):
        return ["number", "exact_match"]
    if statistics.median(len(words(answer)) for answer in answers) <= _SHORT:
        return ["exact_match", "token_f1", "contains"]
    return ["rouge_l", "chrf", "token_f1", "length"]


def _is_object(answer: str) -> bool:
    try:
        return isinstance(parsed_answer(answer), (dict, list))
    except ValueError:
        return False


def _tokens_needed(rows: EvaluationRows) -> int:
    """Return twice the tokens of the longest right answer, at a token of three bytes."""
    answers = [answer for row in rows.rows if (answer := right_answer(row)) is not None]
    if not answers:
        return MOST_TOKENS
    return min(_LONGEST, 16 + 2 * max(len(answer.encode()) for answer in answers) // 3)
