"""Statistics of rows whose answers are labels: accuracy, F1, calibration."""

from collections.abc import Sequence

import torch
from torch import Tensor

from strop.metrics.intervals import Scores, ratio

BINS = 10
"""Bins of equal width by which sureness and accuracy are compared."""


def accuracy(right: Tensor, chosen: Tensor) -> Scores:
    """Return the share of rows whose label is chosen: [B] numbers of labels each."""
    hits = (right == chosen).double()
    return Scores(torch.stack([hits, torch.ones_like(hits)], 1), ratio, share=True, right=True)


def macro_f1(right: Tensor, chosen: Tensor, labels: int) -> Scores:
    """Return the mean over labels of 2 TP / (2 TP + FP + FN); labels that no row has do not count."""
    one_hot = torch.eye(labels, dtype=torch.float64)
    hits = one_hot[right] * (right == chosen)[:, None]
    sums = torch.cat([hits, one_hot[right], one_hot[chosen]], 1)
    return Scores(sums, lambda s: _f1(s, labels).nanmean(1), share=True)


def _f1(sums: Tensor, labels: int) -> Tensor:
    """Return the F1 of each label: [R, L]; NaN where no row has it and none is answered with it."""
    hits, right, chosen = sums.split(labels, 1)
    return 2 * hits / (right + chosen)


def of_class(right: Tensor, chosen: Tensor, label: int) -> dict[str, Scores]:
    """Return precision, recall and F1 of one label, of the rows they count; those of none are left out."""
    is_right, is_chosen = right == label, chosen == label
    hits = 2 * (is_right & is_chosen).double()
    counted = {
        "precision": (is_chosen, hits / 2, is_chosen.double()),
        "recall": (is_right, hits / 2, is_right.double()),
        "f1": (is_right | is_chosen, hits, is_right.double() + is_chosen.double()),
    }
    return {
        name: Scores(
            torch.stack([top, bottom], 1)[rows],
            ratio,
            share=True,
            right=name != "f1",
            rows=tuple(rows.nonzero().flatten().tolist()),
        )
        for name, (rows, top, bottom) in counted.items()
        if rows.any()
    }


def calibration_error(sure: Tensor, hits: Tensor) -> Scores:
    """Return the expected calibration error: sum over bins of |sum of hits - sum of sure| / B.

    Args:
        sure: [B] probability of the chosen label.
        hits: [B] 1 where it is right, else 0.
    """
    bins = torch.eye(BINS, dtype=torch.float64)[(sure * BINS).long().clamp(max=BINS - 1)]
    sums = torch.cat([bins * (hits - sure)[:, None], torch.ones_like(sure)[:, None]], 1)
    return Scores(sums, lambda s: s[:, :BINS].abs().sum(1) / s[:, BINS], share=True)


def reliability(sure: Tensor, hits: Tensor) -> list[dict[str, float]]:
    """Return how sure and how often right a model is, for each bin of sureness that has a row.

    Args:
        sure: [B] probability of the chosen label.
        hits: [B] 1 where it is right, else 0.

    Returns:
        For each bin its number of `rows`, their mean `probability`, and the share that is `right`.
    """
    bins = (sure * BINS).long().clamp(max=BINS - 1)
    places = [bins == number for number in bins.unique().tolist()]
    return [
        {
            "rows": int(place.sum()),
            "probability": float(sure[place].mean()),
            "right": float(hits[place].mean()),
        }
        for place in places
    ]


def confusion(right: Tensor, chosen: Tensor, labels: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the number of rows by right label and choice."""
    count = len(labels)
    table = torch.bincount(right * count + chosen, minlength=count * count).view(count, count)
    return {
        label: dict(zip(labels, row, strict=True))
        for label, row in zip(labels, table.tolist(), strict=True)
    }
