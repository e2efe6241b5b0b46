"""A product of low rank added by a library's product; where dtypes differ, by way of a tensor between."""

import torch
from torch import Tensor


def add_low_rank_(
    out: Tensor, left: Tensor, right: Tensor, scale: float, overwrite: bool
) -> Tensor:
    """See `strop.ops.add_low_rank`."""
    if left.dtype == out.dtype:
        return out.addmm_(left, right, beta=0 if overwrite else 1, alpha=scale)
    if overwrite:
        return out.copy_(torch.mm(left, right).mul_(scale))
    return out.add_(torch.mm(left, right).mul_(scale).to(out.dtype))
