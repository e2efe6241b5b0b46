"""A linear layer with an adapter that PyTorch can differentiate."""

from typing import Any

import torch
from torch import Tensor

from strop.ops.lora_linear import eager
from strop.ops.lora_linear.parts import LinearParts, Workspace


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, part: LinearParts, *trained: Tensor) -> Tensor:
        ctx.part, ctx.masks, ctx.workspace = part, eager.draw_masks(x, (part,)), Workspace()
        ctx.save_for_backward(x)
        return eager.forward(x, (part,), ctx.masks, ctx.workspace)

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        call = (ctx.part,), ctx.masks, ctx.workspace
        dx = eager.input_gradient(dy[0], *call) if ctx.needs_input_grad[0] else None
        needed = ctx.needs_input_grad[2:]
        if not any(needed):
            return dx, None, *(None for _ in needed)
        pairs = zip(eager.adapter_gradients(dy[0], x, *call), needed, strict=True)
        return dx, None, *(gradient if needs else None for gradient, needs in pairs)


def lora_linear(x: Tensor, part: LinearParts) -> Tensor:
    """See `strop.ops.lora_linear`."""
    out: Tensor = _LoraLinear.apply(x, part, *part.trained)
    return out
