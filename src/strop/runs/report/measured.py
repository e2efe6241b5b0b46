"""What an evaluation measured: differences first, then classes, calibration and forgetting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from strop.metrics.names import LOWER_IS_BETTER, format_measure, is_share
from strop.runs.report.plots import (
    confusion_matrix,
    interval_bar,
    reliability_diagram,
    shares_plot,
)

FORGETTING = {
    "text": "General texts",
    "questions": "Questions on facts, instructions and arithmetic",
    "retain": "The rows to retain",
}
"""Titles of what is measured to see what was forgotten."""
VERDICTS = {"better": "▲ better", "worse": "▼ worse", "unsure": "– no sure change"}
_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Change:
    """A measure of two models and its difference, in words."""

    name: str
    difference: str
    verdict: str
    """A key of `VERDICTS`."""
    words: str
    """The verdict in words."""
    bar: Markup
    values: tuple[str, ...]
    """Of each model, with its interval."""
    p: str
    rows_needed: str


def verdict_of(name: str, change: Mapping[str, Any]) -> str:
    """Return whether a difference is surely for the better, for the worse, or neither."""
    low, high = change["low"], change["high"]
    adjusted = change.get("p_adjusted")
    if low is None or low <= 0 <= high or (adjusted is not None and adjusted >= _LEVEL):
        return "unsure"
    if name == "length":
        return "unsure"  # neither is better
    return "better" if (low > 0) != (name in LOWER_IS_BETTER) else "worse"


def changes(difference: Mapping[str, Any], *models: Mapping[str, Any]) -> list[Change]:
    """Return each measure of a comparison, shares first.

    Args:
        difference: of the measures, by name.
        *models: measures of each model, by name.
    """
    shares = {name: is_share(name, models) for name in difference}
    return [
        Change(
            name=name if "." in name else name.replace("_", " "),
            difference=format_measure(difference[name], share),
            verdict=(verdict := verdict_of(name, difference[name])),
            words=VERDICTS[verdict],
            bar=interval_bar(difference[name], verdict),
            values=tuple(format_measure(of[name], share) if name in of else "" for of in models),
            p=_p(difference[name]),
            rows_needed="" if (n := difference[name].get("rows_needed")) is None else f"{n:,}",
        )
        for name, share in sorted(shares.items(), key=lambda of_one: not of_one[1])
    ]


def _p(change: Mapping[str, Any]) -> str:
    adjusted = change.get("p_adjusted")
    p = change.get("p") if adjusted is None else adjusted
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def evaluation_facts(evaluation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what the page says of an evaluation, or None before one."""
    if not evaluation:
        return None
    base, tuned = evaluation["base"], evaluation["tuned"]
    return {
        "data": evaluation["data"],
        "rows": tuned["rows"],
        "note": tuned.get("note"),
        "changes": changes(evaluation["difference"], base, tuned),
        "against": [
            (other["name"], changes(other["difference"], other["model"], tuned))
            for other in evaluation.get("against", ())
        ],
        "judge": _judge(evaluation.get("judge")),
        "classes": _classes(base, tuned),
        "confusion": [
            (name, model["confusion"], confusion_matrix(model["confusion"], name))
            for name, model in (("base", base), ("tuned", tuned))
            if model.get("confusion")
        ],
        "calibration": _calibration(base, tuned),
        "forgetting": [
            (FORGETTING.get(name, name), of["tuned"]["rows"], compared)
            for name, of in evaluation.get("forgetting", {}).items()
            if (compared := changes(of["difference"], of["base"], of["tuned"]))
        ],
    }


def _judge(judge: Mapping[str, Any] | None) -> str | None:
    if not judge:
        return None
    return (
        f"The judge at {judge['judge']} prefers the tuned answer in {judge['wins']:,} rows, the "
        f"base one in {judge['losses']:,}, neither in {judge['ties']:,}: a win rate of "
        f"{format_measure(judge['win_rate'], share=True)}."
    )


def _classes(base: Mapping[str, Any], tuned: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return precision, recall and F1 of each label after training, and F1 before it."""
    of_tuned, of_base = tuned.get("per_class"), base.get("per_class") or {}
    if not of_tuned:
        return None
    rows = []
    for label, measures in of_tuned.items():
        cells = [_share(measures.get(name)) for name in ("precision", "recall", "f1")]
        count = sum(tuned.get("confusion", {}).get(label, {}).values())
        rows.append([label, f"{count:,}", *cells, _share(of_base.get(label, {}).get("f1"))])
    before, after = ({k: v.get("f1") for k, v in of.items()} for of in (of_base, of_tuned))
    return {"rows": rows, "picture": shares_plot("F1 of each class", before, after)}


def _share(measure: Mapping[str, Any] | None) -> str:
    return format_measure(measure, share=True) if measure else "not measured"


def _calibration(base: Mapping[str, Any], tuned: Mapping[str, Any]) -> dict[str, Any] | None:
    models: dict[str, Sequence[Mapping[str, float]]] = {
        name: model["calibration"]
        for name, model in (("base", base), ("tuned", tuned))
        if model.get("calibration")
    }
    if not models:
        return None
    rows = [
        [name, f"{b['rows']:,}", f"{100 * b['probability']:.1f} %", f"{100 * b['right']:.1f} %"]
        for name, bins in models.items()
        for b in bins
    ]
    return {"rows": rows, "picture": reliability_diagram(models)}
