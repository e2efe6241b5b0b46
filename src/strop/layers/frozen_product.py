"""The product with a frozen weight that is stored in another form than it is computed in."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from strop.ops.dequantize.packed import Packed
from strop.ops.lora_linear.parts import write_dense


def product(x: Tensor, weight: Tensor | Packed) -> Tensor:
    """Return x W^T [..., E] for x [..., D], with a gradient for x only.

    The weight is made dense in the dtype of `x` for each product, forward and backward, and not
    kept; kept for backward is nothing but the weight as it is stored.
    """
    y: Tensor = _Product.apply(x, weight)
    return y


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | Packed) -> Tensor:
        ctx.weight = weight
        return F.linear(x, write_dense(weight, x.new_empty(weight.shape)))

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> tuple[Tensor | None, None]:
        dense = write_dense(ctx.weight, dy[0].new_empty(ctx.weight.shape))
        return torch.matmul(dy[0], dense), None
