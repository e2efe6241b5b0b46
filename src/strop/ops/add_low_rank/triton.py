"""A product of low rank added on a GPU: a program writes a tile of the result once.

A library writes the product in float32, and three more passes scale, narrow and add it. The tile is
rounded once, the sums are in float32 without tensor cores: at these ranks memory is what takes time.
"""

import triton
import triton.language as tl
from torch import Tensor

from strop.core.dataless import launches

ROWS, COLS = 32, 128
"""A tile: 32 numbers to a lane of four warps."""


@triton.jit
def _add_kernel(
    Out, Left, Right, out_n, out_e, left_n, left_r, right_r, right_e, N, E, scale,
    R: tl.constexpr, OVERWRITE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, RANKS: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    e = tl.program_id(0).to(tl.int64) * COLS + tl.arange(0, COLS)[None, :]
    total = tl.zeros((ROWS, COLS), tl.float32)
    for start in range(0, R, RANKS):
        across = start + tl.arange(0, RANKS)[None, :]
        down = start + tl.arange(0, RANKS)[:, None]
        left_at, right_at = (
            Left + n * left_n + across * left_r,
            Right + down * right_r + e * right_e,
        )
        left = tl.load(left_at, mask=(n < N) & (across < R), other=0.0).to(tl.float32)
        right = tl.load(right_at, mask=(down < R) & (e < E), other=0.0).to(tl.float32)
        total = tl.dot(left, right, total, input_precision="ieee")
    out_at, mask = Out + n * out_n + e * out_e, (n < N) & (e < E)
    out = scale * total
    if not OVERWRITE:
        out += tl.load(out_at, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_at, out.to(Out.dtype.element_ty), mask=mask)


def add_low_rank_(
    out: Tensor, left: Tensor, right: Tensor, scale: float, overwrite: bool
) -> Tensor:
    """See `strop.ops.add_low_rank`."""
    (N, E), R = out.shape, left.shape[1]
    if out.numel() and launches(out):
        _add_kernel[triton.cdiv(E, COLS), triton.cdiv(N, ROWS)](
            out, left, right, *out.stride(), *left.stride(), *right.stride(), N, E, float(scale),
            R=R, OVERWRITE=overwrite, ROWS=ROWS, COLS=COLS,
            RANKS=min(max(triton.next_power_of_2(R), 16), 32), num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return out
