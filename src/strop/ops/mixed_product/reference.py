"""A product of matrices of different formats in plain PyTorch: the definition."""

import torch
from torch import Tensor


def mixed_product(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """See `strop.ops.mixed_product`."""
    wide = torch.promote_types(left.dtype, right.dtype)
    product = torch.mm(left.to(wide), right.to(wide))
    return product if scale == 1 else product.mul_(scale)
