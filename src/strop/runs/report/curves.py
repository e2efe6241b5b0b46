"""Curves of a run's log: losses, measures at each evaluation, the learning rate."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from strop.runs.loss_curve import smoothed
from strop.runs.noise_scale import noise_scale, noise_scale_curve
from strop.runs.report.charts import Figure, Points, Series, keys, line_chart

_PREFIXES = ("held_out_", "eval_")
"""Beginnings of the names that a log has for what was measured on the held-out rows."""
_ROWS = 12
"""Most steps of a table of a curve without evaluations."""

_OF_REWARDS = {
    "reward": "mean reward of drawn answers",
    "answer_length": "tokens of drawn answers",
    "kl": "nats a token from the first model",
    "entropy": "entropy of a drawn token in nats",
}
"""Entries of the log of a run that learns from rewards, and how they are called."""


def series_of(log: Iterable[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """Return the steps and values of an entry of the log."""
    return [(x["step"], x[name]) for x in log if x.get(name) is not None]


def held_out_series(log: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Return what was measured on the held-out rows at each evaluation, by its name; loss first."""
    names = dict.fromkeys(k for line in log for k in line if k.startswith(_PREFIXES))
    series: dict[str, list[tuple[float, float]]] = {"loss": []}
    for name in names:
        short = name.removeprefix("held_out_").removeprefix("eval_")
        series[short] = series.get(short) or series_of(log, name)
    return {name: points for name, points in series.items() if points}


def figures(log: Sequence[Mapping[str, Any]], best: int | None) -> list[Figure]:
    """Return the figures of a log; none without a step.

    Args:
        log: its lines.
        best: step whose adapter the run keeps, if not the last.
    """
    trained = series_of(log, "loss")
    if not trained:
        return []
    measured = held_out_series(log)
    charts = [_losses(trained, measured.pop("loss", []), best)]
    for name, points in measured.items():
        title = f"{name.replace('_', ' ')} on the held-out rows"
        charts.append(_single(title, Series(title, points, "held", dots=True), best))
    for name, title in _OF_REWARDS.items():
        if points := series_of(log, name):
            charts.append(_single(title, Series(title, points, "train"), None))
    if rates := series_of(log, "learning_rate"):
        charts.append(_single("learning rate", Series("learning rate", rates, "rate"), None))
    return charts


def noise_figures(log: Sequence[Mapping[str, Any]], batch_size: int) -> list[Figure]:
    """Return the gradient noise scale by step; nothing where the steps of a log did not show it."""
    points, scale = noise_scale_curve(log, batch_size), noise_scale(log, batch_size)
    if scale is None or not points:
        return []
    title = "gradient noise scale in rows"
    return [_single(f"{title}: {scale.sentence}", Series(title, points, "rate"), None)]


def probe_figure(probe: Mapping[str, Any]) -> Figure:
    """Return the losses of each learning rate that a probe tried."""
    lines = [
        Series(f"{rate:.2g}", list(enumerate(losses, 1)), f"s{number}")
        for number, (rate, losses) in enumerate(probe["curves"])
    ]
    title = "loss by learning rate in the probe"
    rows = [[s.name, f"{len(s.points)}", f"{s.points[-1][1]:.4f}"] for s in lines if s.points]
    label = f"{title}: {probe['sentence']}"
    return Figure(
        title, line_chart(lines, label), ["learning rate", "steps", "last loss"], rows, keys(lines)
    )


def _losses(trained: Points, held_out: Points, best: int | None) -> Figure:
    means = smoothed(trained)
    series = [
        Series("training rows, each step", trained, "raw"),
        Series("training rows, running mean", means, "train"),
    ]
    if held_out:
        series.append(Series("held-out rows", held_out, "held", dots=True))
    label = f"Loss by step. Training rows: {_ends(means)}."
    label += f" Held-out rows: {_ends(held_out)}." if held_out else ""
    steps = [step for step, _ in held_out] if len(held_out) > 2 else _some([s for s, _ in trained])
    of_steps = [dict(points) for points in (trained, means, held_out)]
    rows = [
        [f"{step:,}", *(f"{of[step]:.4f}" if step in of else "" for of in of_steps)]
        for step in sorted({*steps, *(s for s, _ in held_out)})
    ]
    head = ["step", "training loss", "running mean", "held-out loss"]
    if not held_out:
        head, rows = head[:3], [row[:3] for row in rows]
    return Figure("loss", line_chart(series, label, best), head, rows, keys(series))


def _single(title: str, series: Series, best: int | None) -> Figure:
    label = f"{title} by step: {_ends(series.points)}."
    of_step = dict(series.points)
    rows = [[f"{step:,}", f"{of_step[step]:.4g}"] for step in _some(list(of_step))]
    return Figure(title, line_chart([series], label, best), ["step", title], rows)


def _ends(points: Points) -> str:
    """Return the first, the last and the lowest value of a curve in words."""
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    if not finite:
        return "no number"
    (first, at_first), (last, at_last) = finite[0], finite[-1]
    lowest = min(finite, key=lambda point: point[1])
    return (
        f"{at_first:.4g} at step {first:g}, {at_last:.4g} at step {last:g}, "
        f"lowest {lowest[1]:.4g} at step {lowest[0]:g}"
    )


def _some(steps: Sequence[float]) -> list[float]:
    """Return at most some of the steps, the first and the last among them."""
    if len(steps) <= _ROWS:
        return list(steps)
    places = {round(i * (len(steps) - 1) / (_ROWS - 1)) for i in range(_ROWS)}
    return [steps[place] for place in sorted(places)]
