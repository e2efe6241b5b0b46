"""95 % intervals of measures over rows, alone and paired, also where rows come in clusters.

A measure is `value(S)` of the column sums `S = sum_b s_b` of statistics s_b of each row: the mean
loss per token is S[0] / S[1] of the loss and the number of tokens of each row. Rows of one cluster
(a document, a conversation) depend on each other, so clusters are what is left out or drawn again.
"""

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from strop.metrics.significance import t_quantile, z_quantile

RESAMPLES = 2000
AT_ONCE = 4_000_000
Value = Callable[[Tensor], Tensor]
"""Takes sums [R, K] and returns a value of each: [R]."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """Statistics of each row, and the measure that is computed from their sums."""

    sums: Tensor
    """[B, K] statistics of each row, float64."""
    value: Value
    share: bool
    """True if the measure lies between 0 and 1 and rows shift it by at most about 1 / B each."""
    right: bool = False
    """True if each row is right or wrong: the first statistic is 0 or 1, the second 1."""
    rows: tuple[int, ...] = ()
    """Number in the data of each row, from 0."""

    def total(self) -> float:
        """Return the measure of all rows."""
        return float(self.value(self.sums.sum(0, keepdim=True)))

    def of(self, rows: set[int]) -> "Scores":
        """Return the scores of these rows of the data alone."""
        places = [place for place, row in enumerate(self.rows) if row in rows]
        chosen = tuple(self.rows[place] for place in places)
        return dataclasses.replace(self, sums=self.sums[places], rows=chosen)


def ratio(sums: Tensor) -> Tensor:
    """Return S[0] / S[1], the mean of what is counted."""
    return sums[:, 0] / sums[:, 1]


def wilson(share: float, rows: float, quantile: float | None = None) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share of `rows` independent rows.

        centre = (p + z²/2n) / (1 + z²/n),  half = z sqrt(p(1-p)/n + z²/4n²) / (1 + z²/n)

    It stays inside 0 and 1, has a width where all or none are right, and holds its level near them.
    """
    z = z_quantile(0.975) if quantile is None else quantile
    shrink = 1 + z * z / rows
    centre = (share + z * z / (2 * rows)) / shrink
    half = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows)) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


def interval(scores: Scores, clusters: Tensor, *, seed: int) -> tuple[float, float] | None:
    """Return the 95 % interval of a measure; None where it has one cluster and is no share.

    A share has Wilson's interval for the number of independent rows that would have its standard
    error, `p (1 - p) / error²`: of the rows themselves where they are right or wrong and belong
    to no cluster. Other measures have a bootstrap's.

    Args:
        scores: of every row.
        clusters: [B] number of each row's cluster.
        seed: of the draws.
    """
    grouped = _grouped(scores.sums, clusters)
    count = len(grouped)
    if not scores.share:
        return None if count < 2 else _bootstrap(scores.value, [grouped], seed)
    share, rows = scores.total(), len(scores.sums)
    if count == rows and scores.right:
        return wilson(share, rows)
    error = _error(scores.value, grouped)
    effective = float(count)
    if error > 0:
        effective = min(float(rows), share * (1 - share) / error**2)
    quantile = t_quantile(count - 1) if 1 < count < rows else None
    return wilson(share, max(effective, 1.0), quantile)


@dataclasses.dataclass(frozen=True, slots=True)
class Paired:
    """Difference of a measure between two models on the same rows."""

    value: float
    low: float | None
    high: float | None
    error: float
    """Its standard error."""


def paired(first: Scores, second: Scores, clusters: Tensor, *, seed: int) -> Paired:
    """Return the second model's measure less the first's, with its 95 % interval.

    Measures that are no shares have a paired bootstrap's interval: each draw takes the same rows
    of both. Shares have `(n d ± t sqrt(sum_g i_g² + h²)) / (n + 2)` where i_g is the influence of a
    cluster on the difference d and h² that of one more row that differs, so that the interval has
    a width where the two hardly differ (Agresti and Min 2005, with influences for their counts).

    Args:
        first: scores of every row by the one model.
        second: scores of the same rows by the other.
        clusters: [B] number of each row's cluster.
        seed: of the draws.
    """
    difference = second.total() - first.total()
    groups = [_grouped(scores.sums, clusters) for scores in (first, second)]
    count, rows = len(groups[0]), len(first.sums)
    if count < 2:
        return Paired(difference, None, None, math.inf)
    left_out = _left_out(second.value, groups[1]) - _left_out(first.value, groups[0])
    influence = (count - 1) * (left_out.mean() - left_out) * (rows / count)  # [G]
    squares = float((influence**2).sum()) * count / (count - 1)
    error = math.sqrt(squares) / rows
    if not (first.share and second.share):
        low, high = _bootstrap(first.value, groups, seed)
        return Paired(difference, low, high, error)
    differing = (groups[0] != groups[1]).any(1)
    extra = (
        1.0
        if (first.right and second.right) or not differing.any()
        else float((influence[differing] ** 2).mean())
    )
    half = t_quantile(count - 1) * math.sqrt(squares + extra) / (rows + 2)
    centre = difference * rows / (rows + 2)
    return Paired(difference, max(-1.0, centre - half), min(1.0, centre + half), error)


def _grouped(sums: Tensor, clusters: Tensor) -> Tensor:
    """Return the statistics of each cluster: [G, K]."""
    _, number = torch.unique(clusters, return_inverse=True)
    grouped = torch.zeros((int(number.max()) + 1, sums.shape[1]), dtype=torch.float64)
    return grouped.index_add_(0, number, sums.double())


def _left_out(value: Value, grouped: Tensor) -> Tensor:
    """Return the measure without each cluster in turn: [G]."""
    left_out = value(grouped.sum(0) - grouped)
    return torch.where(left_out.isfinite(), left_out, value(grouped.sum(0, keepdim=True)))


def _error(value: Value, grouped: Tensor) -> float:
    """Return the standard error of a measure, by leaving out each cluster (the jackknife)."""
    count = len(grouped)
    left_out = _left_out(value, grouped)
    return math.sqrt((count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum()))


def _bootstrap(value: Value, groups: list[Tensor], seed: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of a measure, or of the second's less the first's.

    The percentiles are widened as Student's t is wider than a normal distribution (Hesterberg
    2015), since a draw of G clusters varies by (G - 1) / G of what new ones would.
    """
    count = len(groups[0])
    rng = torch.Generator().manual_seed(seed)
    draws: list[Tensor] = []
    step = max(1, min(RESAMPLES, AT_ONCE // count))
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        chosen = torch.randint(count, (size, count), generator=rng)
        chosen += count * torch.arange(size)[:, None]
        times = torch.bincount(chosen.flatten(), minlength=size * count).view(size, count).double()
        values = [value(times @ grouped) for grouped in groups]
        draws.append(values[-1] if len(values) == 1 else values[1] - values[0])
    drawn = torch.cat(draws)
    drawn = drawn[drawn.isfinite()]
    tail = torch.special.ndtr(
        torch.tensor(-math.sqrt(count / (count - 1)) * t_quantile(count - 1), dtype=torch.float64)
    )
    low, high = torch.quantile(drawn, torch.stack([tail, 1 - tail])).tolist()
    return low, high
