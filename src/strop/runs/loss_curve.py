"""A loss curve as inline SVG."""

import math
from collections.abc import Sequence

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 800, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34
RAW_POINTS = 800
"""More points than pixels show nothing."""


def curve(trained: Points, held_out: Points) -> str:
    """Draw the loss of each step, pale, its running mean, and the held-out losses as dots."""
    every = math.ceil(len(trained) / RAW_POINTS)
    raw, smooth = trained[::every], smoothed(trained)[::every]
    values = [loss for _, loss in [*raw, *held_out] if math.isfinite(loss)] or [1.0]
    last = max(step for step, _ in [*trained, *held_out]) or 1
    ticks = nice_ticks(min(0.0, *values), max(values))
    low, high = ticks[0], ticks[-1]

    def x(step: float) -> float:
        return LEFT + step / last * (WIDTH - LEFT - RIGHT)

    def y(loss: float) -> float:
        return HEIGHT - BOTTOM - (loss - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def line(points: Points, kind: str) -> str:
        places = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in points if math.isfinite(v))
        return f"<polyline class='{kind}' points='{places}'/>"

    grid = "".join(
        f"<line class='grid' x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y(t):.1f}' y2='{y(t):.1f}'/>"
        f"<text x='{LEFT - 8}' y='{y(t) + 4:.1f}' text-anchor='end'>{t:g}</text>"
        for t in ticks
    )
    below = "".join(
        f"<text x='{x(t):.1f}' y='{HEIGHT - 12}' text-anchor='middle'>{t:g}</text>"
        for t in nice_ticks(0, last)
        if t <= last and t == int(t)
    )
    dots = "".join(
        f"<circle cx='{x(s):.1f}' cy='{y(v):.1f}' r='3.5'><title>step {s}: {v:.4f}</title></circle>"
        for s, v in held_out
        if math.isfinite(v)
    )
    lines = line(raw, "raw") + line(smooth, "smooth") + line(held_out, "held")
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='loss by step'>"
        f"{grid}{below}{lines}{dots}</svg>"
    )


def smoothed(points: Points, weight: float = 0.9) -> list[tuple[float, float]]:
    """Return the running mean, where each step before counts 0.9 times the one after it."""
    mean = RunningMean(weight)
    return [(step, mean.update(value)) for step, value in points]


class RunningMean:
    """Mean of a series in which each value counts `weight` times the one after it."""

    def __init__(self, weight: float = 0.9) -> None:
        self._weight = weight
        self._total = self._count = 0.0

    def update(self, value: float) -> float:
        """Take the next value and return the mean; a value that is no number does not count."""
        if math.isfinite(value):
            self._total = self._weight * self._total + value
            self._count = self._weight * self._count + 1
        return self._total / self._count if self._count else math.nan


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers that enclose `low` to `high` in about `about` steps."""
    span = (high - low) or 1.0
    size = 10.0 ** math.floor(math.log10(span / about))
    size = next(size * f for f in (1, 2, 5, 10) if span / (size * f) <= about)
    first, last = math.floor(low / size), math.ceil(high / size)
    return [round(i * size, 10) for i in range(first, max(last, first + 1) + 1)]
