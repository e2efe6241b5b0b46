"""Recall of a taught model by the synthetic tokens that it was trained on, and its picture."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from strop.retrieval.teach.material import QUESTIONS, Material
from strop.runs.report.charts import Series, line_chart
from strop.runs.report.page import write_picture
from strop.runs.run import Run

MEASURE = "contains"
"""Recall: the share of wordings that were not trained on whose answer has the right one."""
CURVE = f"eval_{MEASURE}"


def recall_curve(run: Run, material: Material) -> list[tuple[float, float]]:
    """Return at each evaluation how many synthetic tokens were trained on, and the recall then."""
    weights = {Path(of["path"]).name: of["weight"] for of in run.settings["data"]}
    epochs = {line["step"]: line["epoch"] for line in run.log if "epoch" in line} | {0: 0.0}
    synthetic = weights.get(QUESTIONS, 1.0) * material.synthetic_tokens
    return [
        (epochs[line["step"]] * synthetic, line[CURVE])
        for line in run.log
        if line.get(CURVE) is not None and line["step"] in epochs
    ]


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the recall that a thousand synthetic tokens add, by least squares; None for one point."""
    if len({tokens for tokens, _ in points}) < 2:
        return None
    tokens, recall = zip(*points, strict=True)
    return 1000 * statistics.linear_regression(tokens, recall).slope


def draw_recall(file: Path, points: Sequence[tuple[float, float]]) -> None:
    """Write a picture of recall by the synthetic tokens that were trained on."""
    shares = [(tokens, 100 * recall) for tokens, recall in points]
    label = "; ".join(
        f"{recall:.0f} % at {tokens:,.0f} synthetic tokens" for tokens, recall in shares
    )
    line = Series("recall", shares, "train", dots=True)
    caption = "% of wordings not trained on that are answered right, by synthetic tokens trained on"
    label = f"Recall of wordings not trained on: {label}."
    write_picture(file, line_chart([line], label, caption=caption))
