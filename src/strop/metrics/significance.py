"""Tests of differences: Student's t, McNemar's exact test, Holm's correction, power."""

import functools
import math
from collections.abc import Sequence
from statistics import NormalDist

_LARGE = 10_000
"""Degrees of freedom from which Student's t is taken for normal."""
SURE = 0.977
"""Share of normal values below two standard deviations."""


def z_quantile(level: float) -> float:
    """Return the quantile of the normal distribution."""
    return NormalDist().inv_cdf(level)


def t_two_sided(statistic: float, degrees: int) -> float:
    """Return P(|T| >= |statistic|) of Student's t.

    With θ = atan(t / sqrt(ν)), P(|T| < t) is for odd ν
    (2/π) (θ + sin θ (cos θ + 2/3 cos³ θ + ...)), for even ν sin θ (1 + 1/2 cos² θ + ...).
    """
    if degrees > _LARGE:
        return 2 * NormalDist().cdf(-abs(statistic))
    angle = math.atan(abs(statistic) / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    term, total = (cosine, 0.0) if degrees % 2 else (1.0, 0.0)
    for k in range(degrees // 2):
        total += term
        term *= cosine**2 * (2 * k + 1 + degrees % 2) / (2 * k + 2 + degrees % 2)
    inside = sine * total
    if degrees % 2:
        inside = 2 / math.pi * (angle + inside)
    return max(0.0, 1 - inside)


@functools.cache
def t_quantile(degrees: int) -> float:
    """Return the 0.975 quantile of Student's t, by bisection."""
    if degrees > _LARGE:
        return z_quantile(0.975)
    low, high = 1.9, 13.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_two_sided(middle, degrees) > 0.05 else (low, middle)
    return high


def mcnemar(lost: int, won: int) -> float:
    """Return McNemar's exact p: 2 P(X <= min(lost, won)) of a fair coin thrown lost + won times.

    Args:
        lost: rows that only the first model answers right.
        won: rows that only the second answers right.
    """
    count = lost + won
    logs = (
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        for k in range(min(lost, won) + 1)
    )
    return min(1.0, 2 * math.fsum(math.exp(x - count * math.log(2)) for x in logs))


def holm(ps: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p of each of several tests: max over smaller ones of (m - i) p_i."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = largest
    return adjusted


def rows_needed(difference: float, error: float, rows: int) -> int | None:
    """Return how many rows show a difference of this size in four of five evaluations.

        n = rows ((z_0.975 + z_0.8) error / difference)²

    Args:
        difference: as measured.
        error: its standard error on `rows` rows.
        rows: that it was measured on.

    Returns:
        None where there is no difference, or no error is known.
    """
    if difference == 0 or not math.isfinite(error):
        return None
    return max(
        2, math.ceil(rows * ((z_quantile(0.975) + z_quantile(0.8)) * error / difference) ** 2)
    )
