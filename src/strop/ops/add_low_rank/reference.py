"""A product of low rank added in plain PyTorch: the definition."""

from torch import Tensor


def add_low_rank_(out: Tensor, left: Tensor, right: Tensor, scale: float) -> Tensor:
    """See `strop.ops.add_low_rank`."""
    return out.add_((scale * (left @ right)).to(out.dtype))
