"""Rotary position embedding on a GPU: a program turns some heads of one row, reading each angle once."""

import triton
import triton.language as tl
from torch import Tensor

from strop.core.dataless import launches

PAIRS = 2048
"""Pairs a program turns at most, 16 to a lane of 32."""


@triton.jit
def _rotation_kernel(
    X, Y, Cos, Sin, x_n, x_h, x_c, y_n, y_h, y_c, cos_n, cos_p, sin_n, sin_p, H,
    C: tl.constexpr, P: tl.constexpr, INVERSE: tl.constexpr, COPY_REST: tl.constexpr,
    HEADS: tl.constexpr, BLOCK: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    heads = (tl.program_id(1) * HEADS + tl.arange(0, HEADS))[:, None]
    x_row = X + row * x_n + heads.to(tl.int64) * x_h
    y_row = Y + row * y_n + heads.to(tl.int64) * y_h
    pairs = tl.arange(0, BLOCK)[None, :]
    there = pairs < P
    cos = tl.load(Cos + row * cos_n + pairs * cos_p, mask=there, other=0.0).to(tl.float32)
    sin = tl.load(Sin + row * sin_n + pairs * sin_p, mask=there, other=0.0).to(tl.float32)
    if INVERSE:
        sin = -sin
    mask = (heads < H) & there
    first = tl.load(x_row + pairs * x_c, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(x_row + (P + pairs) * x_c, mask=mask, other=0.0).to(tl.float32)
    turned = (first * cos - second * sin).to(Y.dtype.element_ty)
    tl.store(y_row + pairs * y_c, turned, mask=mask)
    turned = (second * cos + first * sin).to(Y.dtype.element_ty)
    tl.store(y_row + (P + pairs) * y_c, turned, mask=mask)
    if COPY_REST:
        rest = 2 * P + tl.arange(0, REST)[None, :]
        mask = (heads < H) & (rest < C)
        tl.store(y_row + rest * y_c, tl.load(x_row + rest * x_c, mask=mask), mask=mask)


def rotate_(x: Tensor, cos: Tensor, sin: Tensor, inverse: bool = False) -> Tensor:
    """Rotate `x` [N, H, C] in place, without autograd; see `ops.rope.eager.rotate_`."""
    _rotate(x, x, cos, sin, inverse)
    return x


def rotated(x: Tensor, cos: Tensor, sin: Tensor, inverse: bool) -> Tensor:
    """Return the rotation of `x`, contiguous; `x` stays as it is."""
    y = x.new_empty(x.shape)
    _rotate(x, y, cos, sin, inverse)
    return y


def _rotate(x: Tensor, y: Tensor, cos: Tensor, sin: Tensor, inverse: bool) -> None:
    """Write the rotation of `x` to `y`, which may be `x`."""
    (N, H, C), P = x.shape, cos.shape[1]
    if not x.numel() or not launches(x):
        return
    block = triton.next_power_of_2(max(P, 1))
    rest = triton.next_power_of_2(max(C - 2 * P, 1))
    heads = min(triton.next_power_of_2(H), max(PAIRS // max(block, rest), 1))
    _rotation_kernel[N, triton.cdiv(H, heads)](
        x, y, cos, sin, *x.stride(), *y.stride(), *cos.stride(), *sin.stride(), H,
        C=C, P=P, INVERSE=inverse, COPY_REST=y is not x and C > 2 * P,
        HEADS=heads, BLOCK=block, REST=rest,
        num_warps=min(max(heads * block // 512, 1), 8), enable_fp_fusion=True,
    )  # fmt: skip
