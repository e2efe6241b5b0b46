"""Rewards of answers that a model samples: ready ones and functions of one's own, checked and bounded."""

from strop.training.rewards.guarded import GuardedReward, RewardError
from strop.training.rewards.named import rewards_of

__all__ = ["GuardedReward", "RewardError", "rewards_of"]
