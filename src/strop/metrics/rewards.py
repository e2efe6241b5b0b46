"""Compares the rewards that two models give the same conversations."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardAgreement:
    """Agreement of an exported model's rewards with the trained model's."""

    conversations: int
    """Conversations compared."""
    mean: float
    """Mean absolute difference of the two rewards of a conversation."""
    largest: float
    """Largest absolute difference."""
    spread: float
    """Standard deviation of the trained model's rewards over the conversations."""
    pairs: int
    """Pairs of conversations whose order was compared."""
    flips: list[float]
    """Of each pair that the exported model orders otherwise, by how much the trained model rewards
    one more than the other; the largest first."""

    @property
    def same_order(self) -> int:
        """Pairs that both models order alike."""
        return self.pairs - len(self.flips)


def reward_agreement(
    trained: Sequence[float], exported: Sequence[float], pairs: Sequence[tuple[int, int]]
) -> RewardAgreement:
    """Compare rewards, and the order of pairs; one that the trained model holds equal has none.

    Args:
        trained: reward of each conversation by the trained model.
        exported: the same by the exported model.
        pairs: numbers of two conversations whose order counts.
    """
    differences = [abs(a - b) for a, b in zip(trained, exported, strict=True)]
    margins = [
        (trained[first] - trained[second], exported[first] - exported[second])
        for first, second in pairs
    ]
    flips = [abs(right) for right, other in margins if right and not right * other > 0]
    return RewardAgreement(
        conversations=len(differences),
        mean=sum(differences) / len(differences),
        largest=max(differences, key=lambda each: (each != each, each)),
        spread=statistics.pstdev(trained),
        pairs=len(pairs),
        flips=sorted(flips, reverse=True),
    )
