"""RMS normalisation that PyTorch can differentiate, whichever implementation runs its passes."""

from typing import Any, Protocol

import torch
from torch import Tensor


class Passes(Protocol):
    """The passes of RMS normalisation without autograd, as the halves of a block call them."""

    def forward(
        self,
        x: Tensor,
        weight: Tensor,
        eps: float,
        unit_offset: bool,
        *,
        out: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return y and the row scales; see `strop.ops.rms_norm.eager.forward`."""

    def backward(
        self,
        dy: Tensor,
        x: Tensor,
        weight: Tensor,
        scale: Tensor,
        unit_offset: bool,
        *,
        weight_needs_grad: bool = False,
        out: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradients of x and weight; see `strop.ops.rms_norm.eager.backward`."""

    def weight_gradient(
        self, dy: Tensor, x: Tensor, weight: Tensor, scale: Tensor, unit_offset: bool
    ) -> Tensor | None:
        """Return the gradient of weight alone."""


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, passes: Passes, x: Tensor, weight: Tensor, eps: float, unit_offset: bool
    ) -> Tensor:
        y, scale = passes.forward(x, weight, eps, unit_offset)
        ctx.save_for_backward(x, weight, scale)
        ctx.passes, ctx.unit_offset = passes, unit_offset
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[None, Tensor | None, Tensor | None, None, None]:
        x, weight, scale = ctx.saved_tensors
        _, x_needs, weight_needs, *_ = ctx.needs_input_grad
        given = dy, x, weight, scale, ctx.unit_offset
        if not x_needs:
            return None, None, ctx.passes.weight_gradient(*given), None, None
        dx, dweight = ctx.passes.backward(*given, weight_needs_grad=weight_needs)
        return None, dx, dweight, None, None


def rms_norm(passes: Passes, x: Tensor, weight: Tensor, eps: float, unit_offset: bool) -> Tensor:
    """See `strop.ops.rms_norm`."""
    y: Tensor = _RMSNorm.apply(passes, x, weight, eps, unit_offset)
    return y
