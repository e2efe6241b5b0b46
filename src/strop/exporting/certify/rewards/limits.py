"""Rewards of the trained model, and how far an export's may be from them in its number format."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strop.exporting.weights.sketches import ROUNDING

_IN_SERIES = 4
"""Products that a block's output goes through: values, attention's output, up and down."""
_FROM_HEAD = 1
"""The head's own product."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardThresholds:
    """Largest differences allowed to the rewards of an export."""

    mean: float
    """Largest mean absolute difference; also what the rewards' spread must exceed."""
    largest: float
    """Largest absolute difference of one conversation."""
    gap: float
    """Reward of a near tie: two conversations no further apart may change places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRewards:
    """Rewards that the trained model gives conversations."""

    texts: list[list[int]]
    """Token ids of the conversations, each up to the end of its answer."""
    rewards: list[float]
    """One for each conversation."""
    pairs: list[tuple[int, int]]
    """Numbers of a row's chosen and rejected answer; where rows have one, every two of them."""
    pad: int
    """Id of the padding token."""
    size: float
    """Root of the mean over conversations of sum_d (w_d h_d)^2 + (sum_d w_d h_d)^2, w the head, h the
    hidden row: of what an error of h in any direction changes, and of the reward."""
    blocks: int
    """Blocks of the decoder."""

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "ReferenceRewards":
        """Return the rewards that were written as plain data."""
        return cls(**{**plain, "pairs": [(first, second) for first, second in plain["pairs"]]})

    def thresholds(self, kind: str) -> RewardThresholds:
        """Return what the rewards of an export may differ by.

        A matrix in a format is off by a share e of its size (`ROUNDING`, twice to four times the
        usual one), in directions that have nothing to do with its input, so that its product is off
        by the share e as well. What a block adds comes out of four products in a row: a share
        2 e. Of a sum of l blocks' outputs of like size one block is a part of 1/l, so that its error
        raises the square of the sum's share by (2 e)^2 / l, and of L blocks the hidden row h is off
        by the share 2 e sqrt(1 + 1/2 + ... + 1/L). The head w adds its own e. An error of the share
        s of h in any direction moves the reward r = w h by s sqrt(sum_d (w_d h_d)^2); one that comes
        before the matrices which write along w, as training makes them, by s r; thus both squared,

            noise = e sqrt(4 (1 + 1/2 + ... + 1/L) + 1) size,  size^2 = mean sum_d (w_d h_d)^2 + r^2.

        Of SmolLM2-135M with a random head, every matrix rounded, rewards moved by 0.30 of that in
        bfloat16, by 0.16 in float16, by 0.28 with errors as large as NF4's.

        The mean absolute difference may be the noise (of normal values it is 0.8 of their
        deviation), the largest of n noise sqrt(2 ln 2n), which the largest of n normal values stays
        below on average. The order of two turns where the noise of their difference, sqrt(2) noise,
        exceeds it: at fewer than 2.3 % of pairs further apart than twice that.

        Args:
            kind: number format of the coarsest weight, a key of `ROUNDING`.
        """
        harmonic = sum(1 / number for number in range(1, self.blocks + 1))
        noise = ROUNDING[kind] * math.sqrt(_IN_SERIES * harmonic + _FROM_HEAD) * self.size
        return RewardThresholds(
            mean=noise,
            largest=noise * math.sqrt(2 * math.log(2 * len(self.rewards))),
            gap=2 * math.sqrt(2) * noise,
        )
