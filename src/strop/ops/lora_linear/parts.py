"""A linear layer taken apart: a weight, and what an adapter adds to it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from strop.ops.dequantize import dequantize
from strop.ops.dequantize.packed import Packed

Gradients = list[Tensor | None]
"""Of the tensors of several layers that are trained, in order."""


@dataclass(frozen=True, slots=True)
class LinearParts:
    """One linear layer: y = x W^T + bias + scale * drop(x) A^T B^T, or DoRA's form of it."""

    weight: Tensor | Packed
    """[E, D] in any dtype or packed; trained only where there is no adapter."""
    bias: Tensor | None = None
    """[E]"""
    a: Tensor | None = None
    """[R, D]; None without an adapter."""
    b: Tensor | None = None
    """[E, R]"""
    scale: float = 1.0
    """alpha / R, or alpha / sqrt(R) (rank-stabilised)."""
    magnitude: Tensor | None = None
    """[E] DoRA: rows of W + scale B A are scaled to this length."""
    dropout: float = 0.0
    """Share of the inputs that the adapter does not see."""

    @property
    def trained(self) -> tuple[Tensor, ...]:
        """Tensors that may need a gradient: A, B, magnitude, and a weight and bias that are trained."""
        adapter = tuple(t for t in (self.a, self.b, self.magnitude) if t is not None)
        return adapter + self.trained_weights

    @property
    def trained_weights(self) -> tuple[Tensor, ...]:
        """Weight and bias, as far as they are trained."""
        both = (self.weight, self.bias)
        return tuple(t for t in both if isinstance(t, Tensor) and t.requires_grad)


class Workspace:
    """Buffers that are reused from layer to layer, one per name, each as large as its largest use."""

    def __init__(self) -> None:
        self._flat: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return an uninitialised tensor of `shape`; it is valid until `name` is taken again."""
        size = torch.Size(shape).numel()
        key = (name, like.dtype, like.device)
        flat = self._flat.get(key)
        if flat is None or flat.numel() < size:
            flat = self._flat[key] = like.new_empty(size)
        return flat[:size].view(shape)


def write_dense(weight: Tensor | Packed, out: Tensor) -> Tensor:
    """Write a weight of any storage into `out` [E, D], in the dtype of `out`."""
    if isinstance(weight, Tensor):
        return out.copy_(weight)
    return dequantize(weight, out=out)
