"""What a call of `linear_log_prob` returns."""

from typing import NamedTuple

from torch import Tensor


class LogProbs(NamedTuple):
    """What is known of each target token; see `strop.ops.linear_log_prob`."""

    log_prob: Tensor
    entropy: Tensor
    is_top1: Tensor
