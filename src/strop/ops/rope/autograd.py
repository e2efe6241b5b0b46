"""Rotary embedding that PyTorch can differentiate, whichever implementation rotates."""

from typing import Any, Protocol

import torch
from torch import Tensor


class Passes(Protocol):
    """The rotation without autograd, as the halves of a block call it."""

    def rotate_(self, x: Tensor, cos: Tensor, sin: Tensor, inverse: bool = False) -> Tensor:
        """Rotate x in place; see `strop.ops.rope.eager.rotate_`."""

    def rotated(self, x: Tensor, cos: Tensor, sin: Tensor, inverse: bool) -> Tensor:
        """Return the rotation of x, contiguous; x stays as it is."""


class _Rope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, passes: Passes, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.passes = passes
        return passes.rotated(x, cos, sin, False)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[None, Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return None, ctx.passes.rotated(dy, cos, sin, True), None, None


def rope(passes: Passes, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """See `strop.ops.rope`."""
    y: Tensor = _Rope.apply(passes, x, cos, sin)
    return y
