"""Gradient noise scale of a run: the batch beyond which more rows average out little more chance."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strop.runs.loss_curve import smoothed

FEWEST = 8
"""Steps from which on the scale is estimated."""
APART = 4.0
"""Times by which the scale must differ from the batch for another batch to be worth a word."""


@dataclass(frozen=True, slots=True)
class NoiseScale:
    """Estimate over the later half of a run's steps."""

    rows: float
    """B = batch size x sum noise / sum signal; infinite where no signal stands out."""
    batch_size: int
    steps: int

    @property
    def sentence(self) -> str:
        """What the scale says about the batch."""
        batch = f"the batch of {self.batch_size:,}"
        if not math.isfinite(self.rows):
            return (
                f"gradient noise scale far above {batch}: over {self.steps:,} steps the signal does "
                "not stand out; larger batches would take fewer steps"
            )
        about = f"gradient noise scale about {max(1, round(self.rows)):,} rows"
        if self.rows > APART * self.batch_size:
            return (
                f"{about}, over {batch}: a step is mostly chance, and larger batches would take "
                "nearly as many times fewer steps"
            )
        if self.rows < self.batch_size / APART:
            return f"{about}, under {batch}: smaller ones would learn nearly as much in a step"
        return f"{about}, near {batch}, which suits"


def noise_scale(log: Iterable[Mapping[str, Any]], batch_size: int) -> NoiseScale | None:
    """Return the gradient noise scale of a run, or None where its steps did not show it.

    A step shows it where it ran in several micro-batches (`strop.forward.gradient_noise`). A signal
    within two standard errors of 0 does not stand out.

    Args:
        log: lines of log.jsonl.
        batch_size: rows of a step.
    """
    steps = [
        (line["gradient_signal"], line["gradient_noise"])
        for line in log
        if "gradient_signal" in line
    ]
    if len(steps) < FEWEST:
        return None
    later = steps[len(steps) // 2 :]
    signal, noise = (math.fsum(column) / len(later) for column in zip(*later, strict=True))
    spread = math.fsum((s - signal) ** 2 for s, _ in later) / (len(later) - 1)
    stands_out = signal > 2 * math.sqrt(spread / len(later))
    rows = batch_size * noise / signal if stands_out else math.inf
    return NoiseScale(rows, batch_size, len(later))


def noise_scale_curve(
    log: Sequence[Mapping[str, Any]], batch_size: int
) -> list[tuple[float, float]]:
    """Return steps and the scale in rows from running means, where their signal is positive."""
    lines = [line for line in log if "gradient_signal" in line]
    means = {
        name: smoothed([(line["step"], line[name]) for line in lines])
        for name in ("gradient_signal", "gradient_noise")
    }
    pairs = zip(means["gradient_signal"], means["gradient_noise"], strict=True)
    return [
        (step, batch_size * max(0.0, noise) / signal)
        for (step, signal), (_, noise) in pairs
        if signal > 0
    ]
