"""95 % intervals: Wilson for a share, bootstrap over rows for a mean per token."""

import math

import torch
from torch import Tensor

Z = 1.959963984540054
"""Quantile 0.975 of the normal distribution."""
RESAMPLES = 2000
AT_ONCE = 4_000_000


def wilson(hits: int, rows: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of the share hits / rows.

        centre = (p + z²/2n) / (1 + z²/n),  half = z sqrt(p(1-p)/n + z²/4n²) / (1 + z²/n)

    It stays inside 0 and 1 and holds its level for small `rows` and for shares near 0 or 1.
    """
    p, shrink = hits / rows, 1 + Z * Z / rows
    centre = (p + Z * Z / (2 * rows)) / shrink
    half = Z * math.sqrt(p * (1 - p) / rows + Z * Z / (4 * rows * rows)) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(sums: Tensor, counts: Tensor, *, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of sum(sums) / sum(counts) when rows are redrawn.

    Rows are the unit, because the tokens of one row depend on each other.

    Args:
        sums: [B] the sum over each row's tokens.
        counts: [B] the number of tokens of each row.
        seed: of the draws.
    """
    rows = sums.numel()
    rng = torch.Generator().manual_seed(seed)
    draws: list[Tensor] = []
    step = max(1, min(RESAMPLES, AT_ONCE // rows))
    for start in range(0, RESAMPLES, step):
        shape = (min(step, RESAMPLES - start), rows)
        chosen = torch.randint(rows, shape, generator=rng)
        draws.append(sums.double()[chosen].sum(1) / counts.double()[chosen].sum(1))
    edges = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.quantile(torch.cat(draws), edges).tolist()
    return low, high
