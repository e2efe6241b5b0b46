"""A product of low rank in float32 added to a tensor in bfloat16 by C++ in one pass."""

from pathlib import Path

import torch
from torch import Tensor

from strop.core import native, work

SOURCE = Path(__file__).with_name("cpu.cpp")


def obstacle(out: Tensor, left: Tensor, right: Tensor) -> str | None:
    """Return why the C++ cannot take the tensors, or None."""
    if (out.dtype, left.dtype, right.dtype) != (torch.bfloat16, torch.float32, torch.float32):
        return "it adds products in float32 to bfloat16"
    if out.stride(1) != 1:
        return "the features of the result are not neighbours"
    return None if native.library(SOURCE) else "its C++ is not compiled"


def add_low_rank_(
    out: Tensor, left: Tensor, right: Tensor, scale: float, overwrite: bool
) -> Tensor:
    """See `strop.ops.add_low_rank`."""
    (N, E), R = out.shape, left.shape[1]
    run = native.function(SOURCE, "add_low_rank", "pppqqqqqqqqfii")
    assert run is not None
    work.did(2 * N * E * R)
    run(
        out, left, right, N, E, R, out.stride(0), *left.stride(), *right.stride(),
        scale, overwrite, torch.get_num_threads(),
    )  # fmt: skip
    return out
