"""RMS normalisation on a GPU: a program takes whole rows into registers and reads each once.

Rows wider than `WIDEST` are read twice, in pieces, the second time out of the cache.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from strop.core.dataless import launches

WIDEST = 8192
"""Features of a row that fit the registers of 16 warps in backward."""
TILE = 2048
"""Elements a program takes at least: short rows, as of heads, are taken several at a time."""
SPLITS = 128
"""Partial sums of the gradient of the weight: programs enough for any card, the same on each."""


@triton.jit
def _forward_kernel(
    X, W, Y, Scale, x_n, x_h, x_d, y_n, y_h, y_d, H, rows, eps,
    D: tl.constexpr, UNIT_OFFSET: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = row < rows
    x_row = X + (row // H * x_n + row % H * x_h)[:, None]
    y_row = Y + (row // H * y_n + row % H * y_h)[:, None]
    cols = tl.arange(0, BLOCK)[None, :]
    if BLOCK >= D:
        mask = there[:, None] & (cols < D)
        x = tl.load(x_row + cols * x_d, mask=mask, other=0.0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(x * x, axis=1) / D + eps)
        _store_normed(x, scale, W, y_row, y_d, cols, mask, D, UNIT_OFFSET, X.dtype.element_ty)
    else:
        squares = tl.zeros((ROWS, BLOCK), tl.float32)
        for start in range(0, D, BLOCK):
            mask = there[:, None] & (start + cols < D)
            x = tl.load(x_row + (start + cols) * x_d, mask=mask, other=0.0).to(tl.float32)
            squares += x * x
        scale = tl.rsqrt(tl.sum(squares, axis=1) / D + eps)
        for start in range(0, D, BLOCK):
            at = start + cols
            mask = there[:, None] & (at < D)
            x = tl.load(x_row + at * x_d, mask=mask, other=0.0).to(tl.float32)
            _store_normed(x, scale, W, y_row, y_d, at, mask, D, UNIT_OFFSET, X.dtype.element_ty)
    tl.store(Scale + row, scale, mask=there)


@triton.jit
def _store_normed(
    x, scale, W, y_row, y_d, cols, mask, D: tl.constexpr, UNIT_OFFSET: tl.constexpr, narrow
):
    weight = tl.load(W + cols, mask=cols < D, other=0.0).to(tl.float32)
    unit = x * scale[:, None]
    y = unit * (1.0 + weight) if UNIT_OFFSET else unit.to(narrow).to(tl.float32) * weight
    tl.store(y_row + cols * y_d, y.to(narrow), mask=mask)


@triton.jit
def _backward_kernel(
    DY, X, W, Scale, DX, dy_n, dy_h, dy_d, x_n, x_h, x_d, dx_n, dx_h, dx_d, H, rows,
    D: tl.constexpr, UNIT_OFFSET: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = row < rows
    n, h = row // H, row % H
    dy_row = DY + (n * dy_n + h * dy_h)[:, None]
    x_row = X + (n * x_n + h * x_h)[:, None]
    dx_row = DX + (n * dx_n + h * dx_h)[:, None]
    scale = tl.load(Scale + row, mask=there, other=0.0)[:, None]
    cols = tl.arange(0, BLOCK)[None, :]
    if BLOCK >= D:
        mask = there[:, None] & (cols < D)
        dunit, unit = _upstream(
            dy_row + cols * dy_d, x_row + cols * x_d, W, scale, cols, mask, D, UNIT_OFFSET
        )
        mean = (tl.sum(dunit * unit, axis=1) / D)[:, None]
        dx = scale * (dunit - unit * mean)
        tl.store(dx_row + cols * dx_d, dx.to(DX.dtype.element_ty), mask=mask)
    else:
        products = tl.zeros((ROWS, BLOCK), tl.float32)
        for start in range(0, D, BLOCK):
            at = start + cols
            mask = there[:, None] & (at < D)
            dunit, unit = _upstream(
                dy_row + at * dy_d, x_row + at * x_d, W, scale, at, mask, D, UNIT_OFFSET
            )
            products += dunit * unit
        mean = (tl.sum(products, axis=1) / D)[:, None]
        for start in range(0, D, BLOCK):
            at = start + cols
            mask = there[:, None] & (at < D)
            dunit, unit = _upstream(
                dy_row + at * dy_d, x_row + at * x_d, W, scale, at, mask, D, UNIT_OFFSET
            )
            dx = scale * (dunit - unit * mean)
            tl.store(dx_row + at * dx_d, dx.to(DX.dtype.element_ty), mask=mask)


@triton.jit
def _upstream(dy_at, x_at, W, scale, cols, mask, D: tl.constexpr, UNIT_OFFSET: tl.constexpr):
    """Return the gradient of the unit rows, and the unit rows."""
    weight = tl.load(W + cols, mask=cols < D, other=0.0).to(tl.float32)
    if UNIT_OFFSET:
        weight += 1.0
    dy = tl.load(dy_at, mask=mask, other=0.0).to(tl.float32)
    x = tl.load(x_at, mask=mask, other=0.0).to(tl.float32)
    return dy * weight, x * scale


@triton.jit
def _weight_kernel(
    DY, X, Scale, Partial, dy_n, dy_h, dy_d, x_n, x_h, x_d, H, rows, each,
    D: tl.constexpr, UNIT_OFFSET: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum dy * unit over `each` rows into one row of the partial sums."""
    cols = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    first = tl.program_id(1).to(tl.int64) * each
    row = first + tl.arange(0, ROWS)
    end = tl.minimum(first + each, rows)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for _ in range(0, each, ROWS):
        n, h = row // H, row % H
        mask = (row < end)[:, None] & (cols < D)
        dy_at = DY + (n * dy_n + h * dy_h)[:, None] + cols * dy_d
        x_at = X + (n * x_n + h * x_h)[:, None] + cols * x_d
        dy = tl.load(dy_at, mask=mask, other=0.0).to(tl.float32)
        x = tl.load(x_at, mask=mask, other=0.0).to(tl.float32)
        unit = x * tl.load(Scale + row, mask=row < end, other=0.0)[:, None]
        if not UNIT_OFFSET:
            unit = unit.to(X.dtype.element_ty).to(tl.float32)
        total += dy * unit
        row += ROWS
    split = tl.program_id(1).to(tl.int64)
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(Partial + split * D + columns, tl.sum(total, axis=0), mask=columns < D)


def forward(
    x: Tensor, weight: Tensor, eps: float, unit_offset: bool, *, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return y and the row scales in float32, without autograd; see `ops.rms_norm.eager.forward`."""
    out = x.new_empty(x.shape) if out is None else out
    scale = x.new_empty(x.shape[:-1], dtype=torch.float32)
    tile = _tile(x)
    if (rows := scale.numel()) and launches(x):
        _forward_kernel[(triton.cdiv(rows, tile["ROWS"]),)](
            x, weight.contiguous(), out, scale, *_strides(x), *_strides(out), _heads(x), rows, eps,
            D=x.shape[-1], UNIT_OFFSET=unit_offset, **tile,
        )  # fmt: skip
    return out, scale


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
    """Return the gradients of `x` and `weight`, without autograd; see `ops.rms_norm.eager.backward`."""
    dweight = weight_gradient(dy, x, weight, scale, unit_offset) if weight_needs_grad else None
    out = x.new_empty(x.shape) if out is None else out
    tile = _tile(x)
    if (rows := scale.numel()) and launches(x):
        _backward_kernel[(triton.cdiv(rows, tile["ROWS"]),)](
            dy, x, weight.contiguous(), scale, out, *_strides(dy), *_strides(x), *_strides(out),
            _heads(x), rows, D=x.shape[-1], UNIT_OFFSET=unit_offset, **tile,
        )  # fmt: skip
    return out, dweight


def weight_gradient(
    dy: Tensor, x: Tensor, weight: Tensor, scale: Tensor, unit_offset: bool
) -> Tensor:
    """Return the gradient of `weight` [D] in its dtype; the order of the sum is always the same."""
    D, rows = x.shape[-1], scale.numel()
    tile_rows = 32
    each = triton.cdiv(triton.cdiv(max(rows, 1), SPLITS), tile_rows) * tile_rows
    splits = triton.cdiv(rows, each)
    partial = x.new_empty(splits, D, dtype=torch.float32)
    if rows and launches(x):
        _weight_kernel[(triton.cdiv(D, 64), splits)](
            dy, x, scale, partial, *_strides(dy), *_strides(x), _heads(x), rows, each,
            D=D, UNIT_OFFSET=unit_offset, ROWS=tile_rows, BLOCK=64, num_warps=4,
            enable_fp_fusion=True,
        )  # fmt: skip
    return partial.sum(0).to(weight.dtype)


def _tile(x: Tensor) -> dict[str, int]:
    """Return how many rows of how many features a program takes, and its warps.

    A lane of 32 takes 16 elements of a wide row. Of short ones it takes 32, so that the weight,
    too, comes 16 bytes at a time where a warp has 64 lanes.
    """
    block = min(triton.next_power_of_2(x.shape[-1]), WIDEST)
    rows = max(1, TILE // block)
    warps = rows * block // (512 if block > 1024 else 1024)
    return {"ROWS": rows, "BLOCK": block, "num_warps": warps, "enable_fp_fusion": True}


def _strides(t: Tensor) -> tuple[int, int, int]:
    """Return the distance between rows, heads and features."""
    return t.stride() if t.ndim == 3 else (t.stride(0), 0, t.stride(1))  # type: ignore[return-value]


def _heads(x: Tensor) -> int:
    return x.shape[1] if x.ndim == 3 else 1
