"""Settings of a run's evaluations and checkpoints: what is measured, when, which is the best."""

import dataclasses
import difflib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from strop.metrics.names import LOWER_IS_BETTER, METRICS, WHILE_TRAINING
from strop.planning.argument_tables import TRACKED, TRACKERS
from strop.planning.problems.methods import IMITATING

if TYPE_CHECKING:
    from strop.planning.settings import Settings

LABELS, AUTO = "labels", "auto"
PAIRS = {
    "rewards/accuracies": "held_out_reward_accuracy",
    "rewards/margins": "held_out_reward_margin",
}
"""What TRL measures of pairs, by its names, and by those of log.jsonl."""
_BEST = ("load_best_model_at_end", "metric_for_best_model")
_NO_SIDE = ("length",)
"""Measures of which neither more nor less is better."""


@dataclasses.dataclass(frozen=True, slots=True)
class BestModel:
    """How the best evaluation of a run is told, and when the run stops for want of a better one."""

    metric: str
    """`loss`, a measure, or what TRL measures of pairs."""
    patience: int | None = None
    """Evaluations without a better one after which the run stops; None never does."""

    @property
    def key(self) -> str:
        """Name of the value in a line of log.jsonl."""
        if self.metric == "loss":
            return "held_out_loss"
        return PAIRS.get(self.metric, f"eval_{self.metric}")

    @property
    def greater(self) -> bool:
        """True if more is better."""
        return self.metric not in LOWER_IS_BETTER


def best_model(settings: "Settings") -> BestModel | None:
    """Return how the best evaluation is told; None for a run that ends with its last adapter."""
    metric, patience = _given(settings, "metric_for_best_model"), settings.early_stopping_patience
    load = _given(settings, "load_best_model_at_end")
    if not load and metric is None and patience is None:
        return None
    return BestModel(_plain(metric or "loss"), patience)


def checkpoint_interval(settings: "Settings", steps: int) -> int:
    """Return the steps between checkpoints of a run of so many: about a tenth of them, unless set."""
    return settings.save_every or max(1, math.ceil(steps / 10))


def metric_names(settings: "Settings") -> tuple[str, ...]:
    """Return the measures that are named, that by which the best evaluation is told among them."""
    given = _listed(settings.eval_metrics)
    names = [_plain(name) for name in given if name not in (LABELS, AUTO)]
    best = best_model(settings)
    if best is not None and best.metric != "loss" and best.metric not in PAIRS:
        names.append(best.metric)
    return tuple(dict.fromkeys(name for name in names if name != "loss"))


def chosen_by_data(settings: "Settings") -> str | None:
    """Return `labels` or `auto` where the data decides the measures, else None."""
    return next((name for name in _listed(settings.eval_metrics) if name in (LABELS, AUTO)), None)


def trackers(settings: "Settings") -> tuple[str, ...]:
    """Return the trackers that a run reports to."""
    return tuple(name for name in _listed(settings.report_to) if name != "none")


def problems(settings: "Settings") -> Iterator[str]:
    """Yield a sentence for each setting of evaluations and trackers that cannot work."""
    yield from _split_problems(settings.held_out)
    yield from _metric_problems(settings)
    yield from _best_problems(settings)
    for name in trackers(settings):
        if name not in TRACKERS:
            near = difflib.get_close_matches(name, TRACKERS, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(TRACKERS)}"
            yield f"report_to is {name!r}, which is no tracker of transformers; {hint}"
    for name in TRACKED:
        if settings.trainer.get(name) is not None and not trackers(settings):
            yield f"trainer.{name} has no effect without report_to"


def _split_problems(held_out: int | float | str) -> Iterator[str]:
    if isinstance(held_out, str):
        return
    if not held_out >= 0:
        yield f"held_out is {held_out}; it must not be below 0"
    if isinstance(held_out, float) and held_out >= 1:
        yield f"held_out is {held_out}; a share is below 1, a number of rows is whole"


def _metric_problems(settings: "Settings") -> Iterator[str]:
    given = _listed(settings.eval_metrics)
    if len(given) > 1:
        for name in given:
            if name in (LABELS, AUTO, "none"):
                yield f"eval_metrics has {name} beside other names; give it alone"
    for name in given:
        if name not in (LABELS, AUTO, "none"):
            yield from _name_problems("eval_metrics", name)
    if settings.eval_rows is not None and settings.eval_metrics is None:
        yield "eval_rows has no effect while eval_metrics is none"
    if settings.held_out == 0 and given not in ((LABELS,), ("none",), ()):
        yield "eval_metrics needs held-out rows to measure; set held_out"


def _name_problems(setting: str, name: str) -> Iterator[str]:
    """Yield what is wrong with a measure that a setting names."""
    plain = _plain(name)
    if plain in WHILE_TRAINING or plain == "loss":
        return
    if plain in METRICS:
        yield (
            f"{setting} is {name!r}, which needs more than the rows (choices, a pattern, a schema); "
            "measure it after the training: strop eval RUN"
        )
        return
    near = difflib.get_close_matches(plain, WHILE_TRAINING, 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(WHILE_TRAINING)}"
    yield f"{setting} is {name!r}, which is no metric; {hint}"


def _best_problems(settings: "Settings") -> Iterator[str]:
    trainer = settings.trainer
    for name in _BEST:
        both = getattr(settings, name), trainer.get(name)
        if None not in both and both[0] not in (False, both[1]):
            yield f"{name} is {both[0]!r} and trainer.{name} is {both[1]!r}; leave one of them out"
    metric = _given(settings, "metric_for_best_model")
    if metric is not None and not isinstance(metric, str):
        yield f"trainer.metric_for_best_model is {metric!r}; it must be a text"
        return
    best = best_model(settings)
    if metric is not None and _plain(metric) not in PAIRS:
        yield from _name_problems("metric_for_best_model", metric)
    if metric is not None and _plain(metric) in PAIRS and settings.method in IMITATING:
        yield (
            f"metric_for_best_model is {metric}, which is measured of pairs, and the method is "
            f"{settings.method}"
        )
    if best is not None and best.metric in _NO_SIDE:
        yield f"metric_for_best_model is {metric}, of which neither more nor less is better"
    if best is not None and settings.held_out == 0:
        names = ("early_stopping_patience", "load_best_model_at_end", "metric_for_best_model")
        given = next(name for name in names if _given(settings, name))
        where = "" if getattr(settings, given) else "trainer."
        yield f"{where}{given} needs held-out rows to tell the best by; set held_out"
    greater = trainer.get("greater_is_better")
    if greater is not None and best is None:
        yield "trainer.greater_is_better has no effect without load_best_model_at_end"
    elif greater is not None and best is not None and greater is not best.greater:
        side = "highest" if best.greater else "lowest"
        yield (
            f"trainer.greater_is_better is {greater!r}; the best model is the one of the {side} "
            f"{best.metric}, so leave it out"
        )


def _given(settings: "Settings", name: str) -> Any:
    """Return a setting, or the argument of TRL's trainer that is called the same."""
    return getattr(settings, name) or settings.trainer.get(name)


def _plain(name: str) -> str:
    """Return the name of a measure without transformers' `eval_` before it."""
    return name.removeprefix("eval_")


def _listed(names: str | list[str] | None) -> tuple[str, ...]:
    """Return names as a list or a text of names and commas has them."""
    if isinstance(names, str):
        names = names.split(",")
    return tuple(name.strip() for name in names or () if name.strip())
