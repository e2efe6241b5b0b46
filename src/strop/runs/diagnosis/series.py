"""Statistics of short noisy series that a few odd values do not move."""

import itertools
import statistics
from collections.abc import Sequence

SIGMAS = 1.4826
"""Standard deviations of normal noise in one median absolute deviation."""


def part(values: Sequence[float], first: float, last: float) -> Sequence[float]:
    """Return the values from one share of a series to another, at least one."""
    begin = min(int(first * len(values)), len(values) - 1)
    return values[begin : max(begin + 1, int(last * len(values)))]


def noise(values: Sequence[float]) -> float:
    """Return the standard deviation of a series' noise, its trend left out.

    sigma = 1.4826 median |x[i+1] - x[i]| / sqrt(2): a slow trend adds little to neighbours'
    differences, and outliers do not move a median.
    """
    steps = [abs(b - a) for a, b in itertools.pairwise(values)]
    return SIGMAS * statistics.median(steps) / 2**0.5 if steps else 0.0


def rises_throughout(values: Sequence[float], parts: int = 4) -> float:
    """Return by how much a series rose, if it did so about equally in every part; else 0.

    Of each part after the first fifth (start-up) the lowest value counts, so peaks that come and go
    and a step to a new level are no rise.
    """
    steady = part(values, 0.2, 1.0)
    lows = [min(part(steady, i / parts, (i + 1) / parts)) for i in range(parts)]
    rises = [b - a for a, b in itertools.pairwise(lows)]
    mean = statistics.fmean(rises)
    return lows[-1] - lows[0] if mean > 0 and min(rises) > 0.4 * mean else 0.0
