"""Which learning rate a probe chooses, by losses alone: equal commands choose equal rates.

A rate that the rules gave is tried beside one `FACTOR` times as high and, if that is not better, one as
much lower; a better side is followed once more. Losses of two rates are compared step by step, on equal
rows that neither has seen, so what differs between rows cancels.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence

SHARE = 0.1
"""Most of a run's steps that its probe takes."""
RATES = 3
"""Most rates that are tried."""
FACTOR = 2.5
FEWEST, MOST = 20, 80
"""Steps of one rate."""
SURE = 2.0
"""Standard errors by which another rate must be better than the best so far."""
HOPELESS = 3.0
"""Standard errors by which a rate must be worse to be stopped early."""
MATTERS = 0.002
"""Share of the loss by which another rate must be better."""

Losses = Sequence[float]
Train = Callable[[float, Losses], Losses]
"""Trains with a rate and returns the loss of each step, fewer where it was hopeless beside others."""


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """What a probe tried, and what it decided."""

    steps: int
    """Of one rate that was not stopped."""
    chosen: float
    curves: list[tuple[float, list[float]]]
    """Learning rates in the order tried, and the loss of each step."""
    sentence: str


def probe_steps(total: int, *, forced: bool = False) -> int:
    """Return the steps of each rate in a run of `total` steps; 0 where it is too short for a probe.

    Args:
        total: steps of the run.
        forced: probe, however short the run is.
    """
    steps = min(MOST, int(SHARE * total / RATES))
    return steps if steps >= FEWEST else FEWEST if forced else 0


def search(train: Train, rate: float, steps: int) -> Probe:
    """Try learning rates and return the best.

    Args:
        train: trains with one, beside the best so far.
        rate: that the rules gave.
        steps: of each rate.
    """
    chosen, best = rate, list(train(rate, ()))
    curves = [(rate, best)]

    def is_better_at(candidate: float) -> bool:
        nonlocal chosen, best
        losses = list(train(candidate, best))
        curves.append((candidate, losses))
        if better := is_better(losses, best):
            chosen, best = candidate, losses
        return better

    if is_better_at(_rounded(rate * FACTOR)):
        is_better_at(_rounded(rate * FACTOR**2))
    else:
        is_better_at(_rounded(rate / FACTOR))
    return Probe(steps, chosen, curves, _sentence(chosen, rate, steps, curves))


def is_better(losses: Losses, than: Losses) -> bool:
    """Return True if losses are surely lower than others on the same rows, over the later half.

    mean d < -max(2 s / sqrt(n), 0.002 mean loss),  d = loss - other loss at each step
    """
    if not losses or len(losses) < len(than) or not all(map(math.isfinite, losses)):
        return False
    if not all(map(math.isfinite, than)):
        return True
    mean, error = _difference(losses, than)
    level = statistics.fmean(than[len(than) // 2 :])
    return mean < -max(SURE * error, MATTERS * abs(level))


def is_hopeless(losses: Losses, than: Losses) -> bool:
    """Return True if losses so far are surely higher than others on the same rows, or no numbers."""
    if not all(map(math.isfinite, losses)):
        return True
    if len(losses) < FEWEST // 2 or len(losses) > len(than):
        return False
    mean, error = _difference(losses, than)
    return mean > HOPELESS * error


def _difference(losses: Losses, than: Losses) -> tuple[float, float]:
    """Return the mean difference over the later half of the common steps, and its standard error."""
    count = min(len(losses), len(than))
    pairs = zip(losses[count // 2 : count], than[count // 2 : count], strict=True)
    differences = [a - b for a, b in pairs]
    deviation = statistics.stdev(differences) if len(differences) > 1 else math.inf
    return statistics.fmean(differences), deviation / math.sqrt(len(differences))


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")


def _sentence(
    chosen: float, rate: float, steps: int, curves: Sequence[tuple[float, Losses]]
) -> str:
    parts = [
        f"{tried:.2g} {_mean(losses)}"
        + (f" (stopped at {len(losses)})" if len(losses) < steps else "")
        for tried, losses in curves
    ]
    decision = "the rate of the rules stays" if chosen == rate else f"learning_rate {chosen:.2g}"
    return f"learning rates by their loss on the same rows: {', '.join(parts)}; {decision}"


def _mean(losses: Losses) -> str:
    """Return the mean of the later half in words."""
    later = losses[len(losses) // 2 :]
    return f"{statistics.fmean(later):.3f}" if later else "no loss"
