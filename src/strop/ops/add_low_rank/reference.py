"""A product of low rank added in plain PyTorch: the definition."""

from torch import Tensor


def add_low_rank_(
    out: Tensor, left: Tensor, right: Tensor, scale: float, overwrite: bool
) -> Tensor:
    """See `strop.ops.add_low_rank`."""
    product = (scale * (left @ right)).to(out.dtype)
    return out.copy_(product) if overwrite else out.add_(product)
