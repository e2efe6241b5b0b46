"""A product of matrices of different formats on a GPU: the long one is read once, as it is stored.

A library would first write a copy in float32, which costs three times as much memory traffic as the
product needs. One side of the result is short, a rank: programs share the sum over the long side, so
that there are enough of them, and their parts are added in a fixed order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from strop.core.dataless import launches

SHARE = 1024
"""Numbers of a sum that one program adds at least."""
SHARES = 8
"""Programs that share a sum at most."""


@triton.jit
def _product_kernel(
    Left, Right, Part, left_n, left_d, right_d, right_e, N, D, E, each, scale,
    ROWS: tl.constexpr, INNER: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    share = tl.program_id(2)
    n = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    e = tl.program_id(1).to(tl.int64) * COLS + tl.arange(0, COLS)[None, :]
    first = share.to(tl.int64) * each
    end = tl.minimum(first + each, D)
    across = first + tl.arange(0, INNER)[None, :]
    down = first + tl.arange(0, INNER)[:, None]
    total = tl.zeros((ROWS, COLS), tl.float32)
    for _ in range(0, each, INNER):
        left_at, right_at = (
            Left + n * left_n + across * left_d,
            Right + down * right_d + e * right_e,
        )
        left = tl.load(left_at, mask=(n < N) & (across < end), other=0.0).to(tl.float32)
        right = tl.load(right_at, mask=(down < end) & (e < E), other=0.0).to(tl.float32)
        total = tl.dot(left, right, total, input_precision="ieee")
        across += INNER
        down += INNER
    part_at = Part + share.to(tl.int64) * N * E + n * E + e
    tl.store(part_at, scale * total, mask=(n < N) & (e < E))


def mixed_product(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """See `strop.ops.mixed_product`."""
    (N, D), E = left.shape, right.shape[1]
    shares = min(max(D // SHARE, 1), SHARES)
    each = triton.cdiv(triton.cdiv(max(D, 1), shares), 64) * 64
    shares = triton.cdiv(max(D, 1), each)
    parts = torch.empty(shares, N, E, dtype=torch.float32, device=left.device)
    if D == 0:
        parts.zero_()
    elif parts.numel() and launches(left):
        rows, inner, cols = (16, 32, 128) if N < E else (32, 64, 16)
        _product_kernel[triton.cdiv(N, rows), triton.cdiv(E, cols), shares](
            left, right, parts, *left.stride(), *right.stride(), N, D, E, each, float(scale),
            ROWS=rows, INNER=inner, COLS=cols, num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return parts[0] if shares == 1 else parts.sum(0)
