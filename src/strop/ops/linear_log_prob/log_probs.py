"""Result of `linear_log_prob`."""

from typing import NamedTuple

from torch import Tensor


class LogProbs(NamedTuple):
    """Scores of each target token; see `strop.ops.linear_log_prob`."""

    log_prob: Tensor
    entropy: Tensor
    is_top1: Tensor
