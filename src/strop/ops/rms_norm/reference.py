"""RMS normalisation in plain PyTorch: the definition the other implementations are held to."""

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float, unit_offset: bool) -> Tensor:
    """See `strop.ops.rms_norm`."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    unit = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    if unit_offset:
        return (unit * (1 + weight.to(wide.dtype))).to(x.dtype)
    return (weight * unit.to(x.dtype)).to(x.dtype)
