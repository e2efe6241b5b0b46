"""Curves over steps as inline SVG, with a table of the same numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 640, 270
LEFT, RIGHT, TOP, BOTTOM = 72, 16, 14, 38
MOST_POINTS = 800
"""More points than pixels show nothing."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart."""

    name: str
    points: Points
    style: str
    """Class of the style sheet: colour, dashes, width."""
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture, what its lines mean, and its numbers as a table."""

    title: str
    picture: Markup
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: Sequence[tuple[Markup, str]] = field(default=())
    """A sample of each line, and its meaning."""


def line_chart(
    series: Sequence[Series], label: str, marked: float | None = None, caption: str = ""
) -> Markup:
    """Draw lines over steps.

    Args:
        series: the lines; values that are no numbers are left out.
        label: what the picture shows, for who does not see it.
        marked: step of a vertical line.
        caption: what the axes are, written below the picture.
    """
    thinned = [_thinned(s) for s in series]
    values = [v for s in thinned for _, v in s.points if math.isfinite(v)] or [0.0, 1.0]
    last = max((step for s in thinned for step, _ in s.points), default=1) or 1
    floor = 0.0 if 0 <= min(values) < max(values) / 2 else min(values)
    ticks = nice_ticks(floor, max(values))
    low, high = ticks[0], max(ticks[-1], ticks[0] + 1e-9)  # all values may be one

    def x(step: float) -> float:
        return LEFT + step / last * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    svg = picture(WIDTH, HEIGHT, label, "chart")
    for tick in ticks:
        add(svg, "line", {"class": "grid", "x1": LEFT, "x2": WIDTH - RIGHT, "y1": y(tick)})
        svg[-1].set("y2", svg[-1].get("y1", ""))
        add(svg, "text", {"x": LEFT - 8, "y": y(tick) + 4, "text-anchor": "end"}, f"{tick:g}")
    for tick in nice_ticks(0, last):
        if tick <= last and tick == int(tick):
            place = {"x": x(tick), "y": HEIGHT - 14, "text-anchor": "middle"}
            add(svg, "text", place, f"{tick:g}")
    if marked is not None:
        ends = {"x1": x(marked), "x2": x(marked), "y1": TOP, "y2": HEIGHT - BOTTOM}
        add(svg, "line", {"class": "marked", **ends})
    for s in thinned:
        places = [(x(step), y(value)) for step, value in s.points if math.isfinite(value)]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        add(svg, "polyline", {"class": f"line {s.style}", "points": points})
        for a, b in places if s.dots else ():
            add(svg, "circle", {"class": f"dot {s.style}", "cx": a, "cy": b, "r": 4})
    if caption:
        middle = {"x": (LEFT + WIDTH - RIGHT) / 2, "y": HEIGHT - 1, "text-anchor": "middle"}
        add(svg, "text", middle, caption)
    return markup(svg)


def keys(series: Iterable[Series]) -> list[tuple[Markup, str]]:
    """Return a sample of each line beside its name."""
    samples = []
    for s in series:
        svg = Element("svg", {"class": "key", "viewBox": "0 0 30 12", "aria-hidden": "true"})
        add(svg, "line", {"class": f"line {s.style}", "x1": 1, "x2": 29, "y1": 6, "y2": 6})
        if s.dots:
            add(svg, "circle", {"class": f"dot {s.style}", "cx": 15, "cy": 6, "r": 4})
        samples.append((markup(svg), s.name))
    return samples


def _thinned(series: Series) -> Series:
    every = max(1, math.ceil(len(series.points) / MOST_POINTS))
    return Series(series.name, series.points[::every], series.style, series.dots)


def picture(width: float, height: float, label: str, style: str) -> Element:
    """Return an empty picture with its text alternative."""
    box = {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": label}
    return Element("svg", {"class": style, **box})


def add(parent: Element, tag: str, attributes: Mapping[str, Any], text: str = "") -> Element:
    """Add an element; numbers have one decimal."""
    plain = {k: v if isinstance(v, str) else f"{v:.1f}" for k, v in attributes.items()}
    child = SubElement(parent, tag, plain)
    child.text = text or None
    return child


def markup(svg: Element) -> Markup:
    """Return a picture as HTML; every text in it is escaped."""
    return Markup(tostring(svg, encoding="unicode", method="html"))


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers that enclose `low` to `high` in about `about` steps."""
    span = (high - low) or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(span / about))
    size = next(size * f for f in (1, 2, 5, 10) if span / (size * f) <= about)
    first, last = math.floor(low / size), math.ceil(high / size)
    return [round(i * size, 12) for i in range(first, max(last, first + 1) + 1)]
