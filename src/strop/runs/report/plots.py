"""Pictures of an evaluation as inline SVG: intervals, F1 by class, confusion, calibration."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from markupsafe import Markup

from strop.runs.report.charts import add, markup, picture

_SHADES = 5
"""Shades of a confusion matrix, from an empty cell to a whole row."""
_LONGEST_LABEL = 18


def interval_bar(change: Mapping[str, Any], verdict: str) -> Markup:
    """Draw a difference and its interval beside zero; the numbers stand beside it as text."""
    svg = Element("svg", {"class": "interval", "viewBox": "0 0 160 20", "aria-hidden": "true"})
    ends = [x for x in (change["low"], change["high"]) if x is not None]
    reach = max(map(abs, [*ends, change["value"]])) or 1.0

    def x(value: float) -> float:
        return 80 + 74 * value / reach

    add(svg, "line", {"class": "zero", "x1": 80, "x2": 80, "y1": 1, "y2": 19})
    if ends:
        span = {"x1": x(min(ends)), "x2": x(max(ends)), "y1": 10, "y2": 10}
        add(svg, "line", {"class": f"span {verdict}", **span})
    add(svg, "circle", {"class": f"point {verdict}", "cx": x(change["value"]), "cy": 10, "r": 5})
    return markup(svg)


def shares_plot(
    title: str, before: Mapping[str, Any], after: Mapping[str, Any], left: float = 130
) -> Markup:
    """Draw shares before and after, a line each, with the intervals after.

    Args:
        title: what the shares are.
        before: measures by name; names without one have no square. Empty draws one value of each.
        after: measures by name.
        left: width of the names.
    """
    height, right = 26 * len(after) + 34, 610
    summary = "; ".join(
        f"{name} {_percent(before.get(name))} before, {_percent(of)} after"
        if before
        else f"{name} {_percent(of)}"
        for name, of in after.items()
    )
    svg = picture(640, height, f"{title}: {summary}", "shares")

    def x(share: float) -> float:
        return left + share * (right - left)

    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        ends = {"x1": x(tick), "x2": x(tick), "y1": 6, "y2": height - 26}
        add(svg, "line", {"class": "grid", **ends})
        place = {"x": x(tick), "y": height - 8, "text-anchor": "middle"}
        add(svg, "text", place, f"{100 * tick:.0f} %")
    for number, (name, of_name) in enumerate(after.items()):
        y = 20 + 26 * number
        add(svg, "text", {"x": left - 10, "y": y + 4, "text-anchor": "end"}, shortened(name))
        if of_name and of_name["low"] is not None:
            ends = {"x1": x(of_name["low"]), "x2": x(of_name["high"]), "y1": y, "y2": y}
            add(svg, "line", {"class": "span tuned", **ends})
        if first := before.get(name):
            square = {"x": x(first["value"]) - 5, "y": y - 5, "width": 10, "height": 10}
            add(svg, "rect", {"class": "point base", **square})
        if of_name:
            dot = {"cx": x(of_name["value"]), "cy": y, "r": 6}
            add(svg, "circle", {"class": "point tuned", **dot})
    return markup(svg)


def _percent(measure: Mapping[str, Any] | None) -> str:
    return f"{100 * measure['value']:.0f} %" if measure else "not measured"


def confusion_matrix(confusion: Mapping[str, Mapping[str, int]], name: str) -> Markup:
    """Draw how often each label is answered where each label is right, a row for each right one.

    A cell is the darker, the larger its share of the row.
    """
    labels = list(confusion)
    many = len(labels) > 4
    cell = 64 if not many else max(26, 320 // len(labels))
    left, top = 150, 110 if many else 44
    size = cell * len(labels)
    right = sum(confusion[label][label] for label in labels)
    total = sum(sum(row.values()) for row in confusion.values())
    label = f"Confusion matrix of the {name} model: {right:,} of {total:,} on the diagonal"
    svg = picture(left + size + (70 if many else 10), top + size + 10, label, "confusion")
    for column, text in enumerate(labels):
        x, y = left + cell * (column + 0.5), top - 10.0
        place: dict[str, Any] = {"x": x, "y": y, "text-anchor": "middle"}
        if many:
            place |= {"text-anchor": "start", "transform": f"rotate(-45 {x:.1f} {y:.1f})"}
        add(svg, "text", place, shortened(text, 18 if many else 10))
    for row, text in enumerate(labels):
        counts = list(confusion[text].values())
        y = top + cell * row
        at = {"x": left - 10, "y": y + cell / 2 + 4, "text-anchor": "end"}
        add(svg, "text", at, shortened(text))
        for column, count in enumerate(counts):
            shade = _shade(count, sum(counts))
            box = {"x": left + cell * column + 1, "y": y + 1, "width": cell - 2, "height": cell - 2}
            diagonal = " right" if row == column else ""
            add(svg, "rect", {"class": f"cell shade-{shade}{diagonal}", "rx": "4", **box})
            middle = {"x": left + cell * (column + 0.5), "y": y + cell / 2 + 5}
            style = {"class": f"count on-{shade}", "text-anchor": "middle"}
            add(svg, "text", {**style, **middle}, f"{count:,}")
    return markup(svg)


def _shade(count: int, total: int) -> int:
    return 0 if not count else min(_SHADES - 1, 1 + int((_SHADES - 1) * count / total))


def reliability_diagram(models: Mapping[str, Sequence[Mapping[str, float]]]) -> Markup:
    """Draw how often each model is right by how sure it is; on the diagonal both agree.

    Args:
        models: bins by the model's name, as an evaluation has them.
    """
    summary = "; ".join(
        f"{name}: "
        + ", ".join(f"sure {b['probability']:.0%}, right {b['right']:.0%}" for b in bins)
        for name, bins in models.items()
    )
    left, top, size = 58, 10, 300
    svg = picture(left + size + 16, top + size + 46, f"Reliability. {summary}", "reliability")

    def x(share: float) -> float:
        return left + share * size

    def y(share: float) -> float:
        return top + (1 - share) * size

    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        ends = {"x1": x(0), "x2": x(1), "y1": y(tick), "y2": y(tick)}
        add(svg, "line", {"class": "grid", **ends})
        place = {"x": left - 8, "y": y(tick) + 4, "text-anchor": "end"}
        add(svg, "text", place, f"{100 * tick:.0f} %")
        below = {"x": x(tick), "y": top + size + 20, "text-anchor": "middle"}
        add(svg, "text", below, f"{100 * tick:.0f} %")
    add(svg, "line", {"class": "diagonal", "x1": x(0), "x2": x(1), "y1": y(0), "y2": y(1)})
    middle = {"x": left + size / 2, "y": top + size + 40, "text-anchor": "middle"}
    add(svg, "text", middle, "probability of the answer")
    for name, bins in models.items():
        places = [(x(b["probability"]), y(b["right"]), b["rows"]) for b in bins]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b, _ in places)
        add(svg, "polyline", {"class": f"line {name}", "points": points})
        most = max(rows for _, _, rows in places)
        for a, b, rows in places:
            radius = 3 + 6 * (rows / most) ** 0.5
            if name == "base":
                square = {"x": a - radius, "y": b - radius, "width": 2 * radius}
                add(svg, "rect", {"class": "point base", "height": 2 * radius, **square})
            else:
                add(svg, "circle", {"class": f"point {name}", "cx": a, "cy": b, "r": radius})
    return markup(svg)


def shortened(text: str, most: int = _LONGEST_LABEL) -> str:
    """Return a text of at most some characters, its end replaced by an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"
