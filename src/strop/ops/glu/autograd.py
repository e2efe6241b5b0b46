"""Gated linear unit that PyTorch can differentiate, whichever implementation runs its passes."""

from typing import Any, Protocol

import torch
from torch import Tensor


class Passes(Protocol):
    """The passes of the gated linear unit without autograd, as the halves of a block call them."""

    def forward(self, gate_up: Tensor, activation: str, *, out: Tensor | None = None) -> Tensor:
        """Return act; see `strop.ops.glu.eager.forward`."""

    def backward(
        self,
        dact: Tensor,
        gate_up: Tensor,
        activation: str,
        *,
        act: Tensor | None = None,
        overwrite: bool = False,
    ) -> Tensor:
        """Return the gradient of gate_up, and write act; see `strop.ops.glu.eager.backward`."""


class _GLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, passes: Passes, gate_up: Tensor, activation: str) -> Tensor:
        ctx.save_for_backward(gate_up)
        ctx.passes, ctx.activation = passes, activation
        return passes.forward(gate_up, activation)

    @staticmethod
    def backward(ctx: Any, dact: Tensor) -> tuple[None, Tensor, None]:
        (gate_up,) = ctx.saved_tensors
        return None, ctx.passes.backward(dact, gate_up, ctx.activation), None


def glu(passes: Passes, gate_up: Tensor, activation: str) -> Tensor:
    """See `strop.ops.glu`."""
    act: Tensor = _GLU.apply(passes, gate_up, activation)
    return act
