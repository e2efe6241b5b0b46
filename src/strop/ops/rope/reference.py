"""Rotary position embedding in plain PyTorch: the definition."""

import torch
from torch import Tensor


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """See `strop.ops.rope`."""
    P = cos.shape[-1]
    first, second, rest = x.split([P, P, x.shape[-1] - 2 * P], dim=-1)
    cos, sin = cos[:, None], sin[:, None]  # [N, 1, P]
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return torch.cat((turned.to(x.dtype), rest), dim=-1)
