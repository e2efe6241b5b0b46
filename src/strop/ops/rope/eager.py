"""Rotary position embedding on any device: one pass; its backward is that with the angle negated.

In float32 and bfloat16 on a CPU by C++ (`cpu.cpp`), else in plain PyTorch.
"""

from pathlib import Path

import torch
from torch import Tensor

from strop.core import native

SOURCE = Path(__file__).with_name("cpu.cpp")


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
    if not _compiled_rotation(x, x, cos, sin, inverse):
        _plain_rotation_(x, cos, sin, inverse)
    return x


def rotated(x: Tensor, cos: Tensor, sin: Tensor, inverse: bool) -> Tensor:
    """Return the rotation of `x`, contiguous; `x` stays as it is."""
    y = x.new_empty(x.shape)
    if not _compiled_rotation(x, y, cos, sin, inverse):
        _plain_rotation_(y.copy_(x), cos, sin, inverse)
    return y


def _compiled_rotation(x: Tensor, y: Tensor, cos: Tensor, sin: Tensor, inverse: bool) -> bool:
    """Write the rotation of `x` to `y`, or return False where the C++ cannot do it."""
    features_are_neighbours = x.stride(-1) == y.stride(-1) == 1
    run = native.function_for(SOURCE, "rope_rotate", "ppppqqqqqqqqqqii", x, y)
    if run is None or not features_are_neighbours:
        return False
    cos, sin = (t.float() if t.stride(-1) == 1 else t.float().contiguous() for t in (cos, sin))
    run(
        x, y, cos, sin, *x.shape, cos.shape[-1],
        *x.stride()[:2], *y.stride()[:2], cos.stride(0), sin.stride(0), inverse,
        torch.get_num_threads(),
    )  # fmt: skip
    return True


def _plain_rotation_(x: Tensor, cos: Tensor, sin: Tensor, inverse: bool) -> None:
    P = cos.shape[-1]
    wide = torch.promote_types(x.dtype, torch.float32)
    cos, sin = cos[:, None].to(wide), sin[:, None].to(wide)  # [N, 1, P]
    if inverse:
        sin = -sin
    first, second = x[..., :P], x[..., P : 2 * P]
    turned = first * cos - second * sin
    second.copy_(second * cos + first * sin)
    first.copy_(turned)
