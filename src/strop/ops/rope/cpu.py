"""Rotary position embedding on CPU: in place, and its own backward with the angle negated."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strop.core import native

SOURCE = Path(__file__).with_name("cpu.cpp")


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """See `strop.ops.rope`."""
    return _Rope.apply(x, cos, sin)


def rotate_(x: Tensor, cos: Tensor, sin: Tensor, inverse: bool = False) -> Tensor:
    """Rotate `x` in place, without autograd; the inverse rotation is the backward pass.

    Args:
        x: [N, H, C], any strides: a view into a larger buffer is rotated where it lies.
        cos: [N, P] with 2 P at most C.
        sin: [N, P].
        inverse: rotate by the negated angle.

    Returns:
        `x` itself.
    """
    P = cos.shape[-1]
    if x.dtype == torch.float32 and (x.stride(-1) == 1 or x.shape[-1] == 1):
        run = native.function(SOURCE, "rope_rotate", "pppqqqqqqqii")
        if run is not None:
            cos, sin = (
                t.float() if t.stride(-1) == 1 else t.float().contiguous() for t in (cos, sin)
            )
            run(
                x.data_ptr(), cos.data_ptr(), sin.data_ptr(), x.shape[0], x.shape[1], P,
                x.stride(0), x.stride(1), cos.stride(0), sin.stride(0), inverse,
                torch.get_num_threads(),
            )  # fmt: skip
            return x
    wide = torch.promote_types(x.dtype, torch.float32)
    cos, sin = cos[:, None].to(wide), sin[:, None].to(wide)  # [N, 1, P]
    if inverse:
        sin = -sin
    first, second = x[..., :P], x[..., P : 2 * P]
    turned = first * cos - second * sin
    second.copy_(second * cos + first * sin)
    first.copy_(turned)
    return x


class _Rope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return rotate_(x.clone(memory_format=torch.contiguous_format), cos, sin)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        dx = dy.clone(memory_format=torch.contiguous_format)
        return rotate_(dx, cos, sin, inverse=True), None, None
