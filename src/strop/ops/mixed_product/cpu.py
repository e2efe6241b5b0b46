"""A thin product of bfloat16 and float32 by C++: the larger matrix is read once, and never copied."""

from pathlib import Path

import torch
from torch import Tensor

from strop.core import native, work

SOURCE = Path(__file__).with_name("cpu.cpp")
_ROWS, _COLUMNS = "pppqqqqqqfi", "pppqqqqqqqqfi"


def obstacle(left: Tensor, right: Tensor) -> str | None:
    """Return why the C++ cannot take the matrices, or None."""
    if {left.dtype, right.dtype} != {torch.bfloat16, torch.float32}:
        return "it multiplies bfloat16 with float32"
    if _layout(left, right) is None:
        return "the features of the matrix in bfloat16 are not neighbours"
    return None if native.library(SOURCE) else "its C++ is not compiled"


def mixed_product(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """See `strop.ops.mixed_product`."""
    (N, D), E = left.shape, right.shape[1]
    out = torch.empty(N, E, dtype=torch.float32, device=left.device)
    threads = torch.get_num_threads()
    work.did(2 * N * D * E)
    if _layout(left, right) == "rows":
        run = native.function(SOURCE, "mixed_rows", _ROWS)
        assert run is not None
        strides = left.stride(0), *right.stride()
        run(left, right, out, N, D, E, *strides, scale, threads)
        return out
    run = native.function(SOURCE, "mixed_columns", _COLUMNS)
    assert run is not None
    if right.dtype == torch.bfloat16:
        strides = right.stride(0), left.stride(1), left.stride(0), E, 1
        run(right, left, out, D, E, N, *strides, scale, threads)
    else:
        strides = left.stride(1), *right.stride(), 1, E
        run(left, right, out, D, N, E, *strides, scale, threads)
    return out


def _layout(left: Tensor, right: Tensor) -> str | None:
    """Return which function takes the matrices: "rows", "columns" or none."""
    if left.dtype == torch.bfloat16 and left.stride(1) == 1:
        return "rows"
    large = left.T if left.dtype == torch.bfloat16 else right
    return "columns" if large.stride(1) == 1 else None
