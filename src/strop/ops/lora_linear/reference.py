"""A linear layer with an adapter in plain PyTorch: the definition."""

import torch
import torch.nn.functional as F
from torch import Tensor

from strop.ops.lora_linear.parts import LinearParts, write_dense


def lora_linear(x: Tensor, part: LinearParts) -> Tensor:
    """See `strop.ops.lora_linear`."""
    weight = write_dense(part.weight, x.new_empty(tuple(part.weight.shape)))
    y = F.linear(x, weight)
    if part.a is not None and part.b is not None:
        seen = F.dropout(x.to(part.a.dtype), part.dropout)
        y = y + (part.scale * F.linear(F.linear(seen, part.a), part.b)).to(x.dtype)
        if part.magnitude is not None:
            rows = weight.to(part.a.dtype) + part.scale * part.b.detach() @ part.a.detach()
            y = y * (part.magnitude / torch.linalg.vector_norm(rows, dim=1)).to(y.dtype)
    return y if part.bias is None else y + part.bias.to(y.dtype)
