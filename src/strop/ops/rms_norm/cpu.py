"""RMS normalisation on CPU: one pass over each row and direction, derivatives by hand."""

from typing import Any

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float, unit_offset: bool) -> Tensor:
    """See `strop.ops.rms_norm`."""
    return _RMSNorm.apply(x, weight, eps, unit_offset)


def forward(
    x: Tensor, weight: Tensor, eps: float, unit_offset: bool, *, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return y and the row scales 1 / sqrt(mean(x**2) + eps), without autograd.

    Args:
        x: [..., D], any strides.
        weight: [D].
        eps: see `strop.ops.rms_norm`.
        unit_offset: see `strop.ops.rms_norm`.
        out: [..., D] where y is written, may be `x` itself; None makes a contiguous one.

    Returns:
        y [..., D] and scale [...], the scale in float32 or wider.
    """
    wide = x.to(_wide(x))
    scale = torch.rsqrt(wide.square().mean(-1) + eps)
    unit = wide * scale[..., None]
    factor = weight.to(wide.dtype)
    y = unit * (1 + factor) if unit_offset else unit.to(x.dtype) * factor
    out = x.new_empty(x.shape) if out is None else out
    return out.copy_(y), scale


def backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    unit_offset: bool,
    *,
    weight_needs_grad: bool = False,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of `x` and, if asked for, of `weight`, without autograd.

        dunit = dy * weight                                     or dy * (1 + weight)
        dx = scale * (dunit - unit * mean(dunit * unit))        dweight = sum_n dy * unit

    Args:
        dy: [..., D], any strides.
        x: [..., D] as given to `forward`.
        weight: [D] as given to `forward`.
        scale: [...] from `forward`.
        unit_offset: as given to `forward`.
        weight_needs_grad: whether the second result is wanted.
        out: [..., D] where dx is written, may be `dy` or `x` itself; None makes a contiguous one.

    Returns:
        dx [..., D] in the dtype of `x`, and dweight [D] in the dtype of `weight` or None.
    """
    wide = _wide(x)
    unit = x.to(wide) * scale[..., None]
    factor = weight.to(wide)
    dunit = dy.to(wide) * (1 + factor if unit_offset else factor)
    dweight = _weight_gradient(dy, unit, x, weight, unit_offset) if weight_needs_grad else None
    dx = (dunit - unit * (dunit * unit).mean(-1, keepdim=True)).mul_(scale[..., None])
    out = x.new_empty(x.shape) if out is None else out
    return out.copy_(dx), dweight


def _weight_gradient(
    dy: Tensor, unit: Tensor, x: Tensor, weight: Tensor, unit_offset: bool
) -> Tensor:
    rounded = unit if unit_offset else unit.to(x.dtype)
    return (dy.to(unit.dtype) * rounded).flatten(0, -2).sum(0).to(weight.dtype)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, unit_offset: bool) -> Tensor:
        y, scale = forward(x, weight, eps, unit_offset)
        ctx.save_for_backward(x, weight, scale)
        ctx.unit_offset = unit_offset
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight, scale = ctx.saved_tensors
        x_needs, weight_needs = ctx.needs_input_grad[:2]
        if not x_needs:
            unit = x.to(scale.dtype) * scale[..., None]
            return None, _weight_gradient(dy, unit, x, weight, ctx.unit_offset), None, None
        dx, dweight = backward(
            dy, x, weight, scale, ctx.unit_offset, weight_needs_grad=weight_needs
        )
        return dx, dweight, None, None
