"""Running mean of a loss curve."""

import math
from collections.abc import Sequence

Points = Sequence[tuple[float, float]]


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
