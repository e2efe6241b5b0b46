"""Layers that store weights in 16 bits and compute in a wider format."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strop.layers.frozen_product import product


class NarrowLinear(nn.Linear):
    """y = x W^T + bias in the dtype of x, whatever the dtype of W.

    A frozen weight is widened for each product and then dropped; a trained one is widened by autograd.

    Args:
        linear: the layer whose weight and bias it takes over, the same objects.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return y [..., E] for x [..., D]."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.weight.dtype == x.dtype or self.weight.requires_grad:
            return F.linear(x, self.weight.to(x.dtype), bias)
        y = product(x, self.weight)
        return y if bias is None else y + bias


class NarrowEmbedding(nn.Embedding):
    """y = scale * W[ids] in `dtype`, whatever the dtype of W.

    Args:
        embedding: whose weight it takes over, the same object, which a tied head shares.
        dtype: of the rows it returns.
        scale: factor on them, 1 for most families.
    """

    def __init__(self, embedding: nn.Embedding, dtype: torch.dtype, scale: float = 1.0) -> None:
        weight = embedding.weight
        V, D = weight.shape
        super().__init__(V, D, embedding.padding_idx, _weight=weight)
        self.weight = weight
        self.dtype, self.scale = dtype, scale

    def forward(self, ids: Tensor) -> Tensor:
        """Return rows [..., D] for ids [...]."""
        rows: Tensor = super().forward(ids).to(self.dtype)
        return rows if self.scale == 1 else rows * self.scale
