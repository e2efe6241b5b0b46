"""sweep.html: the trials of a sweep on one page, the best first."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from strop.core.progress import duration
from strop.planning.evaluations import BestModel
from strop.runs.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Figure,
    Series,
    add,
    keys,
    line_chart,
    markup,
    nice_ticks,
    picture,
)
from strop.runs.report.curves import series_of
from strop.runs.report.facts import command, word
from strop.runs.report.page import write_page
from strop.runs.run import Run

Trial = Mapping[str, Any]

_STYLES = 8


def write_sweep(folder: Path, trials: Sequence[Trial], best: int | None, by: BestModel) -> Path:
    """Write the page of a sweep.

    Args:
        folder: of the sweep.
        trials: number, state, settings, value, seconds and run of each.
        best: number of the best; None before one finished.
        by: what tells the best.
    """
    sign = -1 if by.greater else 1
    ordered = sorted(
        trials, key=lambda t: sign * t["value"] if t["value"] is not None else math.inf
    )
    names = list(dict.fromkeys(name for trial in trials for name in trial["settings"]))
    measure = by.key.removeprefix("eval_").replace("_", " ")
    chosen = next((t for t in trials if t["number"] == best), None)
    path = folder / "sweep.html"
    write_page(
        path,
        "sweep.html.jinja",
        title=f"sweep over {', '.join(names)}" if names else "sweep",
        best=chosen,
        measure=measure,
        state=f"{len(trials):,} trials, {duration(sum(t['seconds'] for t in trials))}",
        head=["trial", *names, measure, "state", "time"],
        rows=[_row(trial, names) for trial in ordered],
        figures=[*_by_setting(trials, names, measure), *_curves(trials, by, measure)],
        command="" if chosen is None else command(Run(Path(chosen["run"])).record, chosen["run"]),
    )
    return path


def _row(trial: Trial, names: Sequence[str]) -> list[str]:
    values = [word(trial["settings"].get(name)) for name in names]
    value = "" if trial["value"] is None else f"{trial['value']:.4f}"
    number = f"{trial['number']:,}"
    return [number, *values, value, trial["state"], duration(trial["seconds"])]


def _curves(trials: Sequence[Trial], by: BestModel, measure: str) -> list[Figure]:
    """Return the measure by step, a line for each trial."""
    lines = []
    for number, trial in enumerate(trials):
        run = Run(Path(trial["run"]))
        points = series_of(run.log, by.key) if Run.is_at(run.path) else []
        if points:
            style = f"s{number % _STYLES}"
            lines.append(Series(f"trial {trial['number']}", points, style, dots=True))
    if not lines:
        return []
    rows = [[s.name, f"{s.points[0][1]:.4f}", f"{s.points[-1][1]:.4f}"] for s in lines]
    title = f"{measure} by step"
    label = f"{title}: {len(lines)} trials"
    return [Figure(title, line_chart(lines, label), ["trial", "first", "last"], rows, keys(lines))]


def _by_setting(trials: Sequence[Trial], names: Sequence[str], measure: str) -> list[Figure]:
    """Return for each setting that was tried what the trials with each value came to."""
    figures = []
    for name in names:
        points = [
            (trial["settings"][name], trial["value"])
            for trial in trials
            if trial["value"] is not None and name in trial["settings"]
        ]
        if len({value for value, _ in points}) > 1:
            title = f"{measure} by {name.replace('_', ' ')}"
            rows = [[word(x), f"{y:.4f}"] for x, y in sorted(points, key=lambda p: p[1])]
            figures.append(Figure(title, _dots(points, title), [name, measure], rows))
    return figures


def _dots(points: Sequence[tuple[Any, float]], label: str) -> Markup:
    """Draw a dot for each trial: numbers by factor where they span ten, other values side by side."""
    places, ticks = _places([x for x, _ in points])
    values = [y for _, y in points]
    levels = nice_ticks(min(values), max(values))
    low, high = levels[0], max(levels[-1], levels[0] + 1e-9)

    def x(share: float) -> float:
        return LEFT + 20 + share * (WIDTH - LEFT - RIGHT - 40)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    svg = picture(WIDTH, HEIGHT, f"{label}: {len(points)} trials", "chart")
    for level in levels:
        ends = {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": y(level), "y2": y(level)}
        add(svg, "line", {"class": "grid", **ends})
        add(svg, "text", {"x": LEFT - 8, "y": y(level) + 4, "text-anchor": "end"}, f"{level:g}")
    for share, text in ticks:
        add(svg, "text", {"x": x(share), "y": HEIGHT - 14, "text-anchor": "middle"}, text)
    for share, value in zip(places, values, strict=True):
        add(svg, "circle", {"class": "dot train", "cx": x(share), "cy": y(value), "r": 5})
    return markup(svg)


def _places(values: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return where values lie between 0 and 1, and the labels of the axis."""
    distinct = sorted({*values}, key=lambda v: (isinstance(v, str), v))
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in distinct)
    if not numbers or len(distinct) <= 4:
        shares = {v: i / max(1, len(distinct) - 1) for i, v in enumerate(distinct)}
        return [shares[v] for v in values], [(s, word(v)) for v, s in shares.items()]
    by_factor = distinct[0] > 0 and distinct[-1] / distinct[0] >= 5
    scale = math.log if by_factor else float
    low, high = scale(distinct[0]), scale(distinct[-1])
    ends = [(0.0, f"{distinct[0]:g}"), (1.0, f"{distinct[-1]:g}")]
    return [(scale(v) - low) / (high - low) for v in values], ends
