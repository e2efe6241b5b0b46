"""A linear layer taken apart: a frozen weight, and what an adapter adds to it."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class PackedWeight(Protocol):
    """A frozen weight [E, D] that is stored in few bits."""

    @property
    def shape(self) -> torch.Size:
        """Return [E, D]."""

    def dense(self, out: Tensor) -> Tensor:
        """Write the weight into `out` [E, D] and return it."""


@dataclass(frozen=True, slots=True)
class LinearParts:
    """One linear layer: y = x W^T + bias + scale * drop(x) A^T B^T, or DoRA's form of it."""

    weight: Tensor | PackedWeight
    """[E, D] frozen, in any dtype or packed."""
    bias: Tensor | None = None
    """[E] frozen."""
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
        """The tensors that can want a gradient: A, B, magnitude."""
        return tuple(t for t in (self.a, self.b, self.magnitude) if t is not None)


class Workspace:
    """Buffers that are reused from layer to layer, one per name, as large as was ever asked for."""

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


def write_dense(weight: Tensor | PackedWeight, out: Tensor) -> Tensor:
    """Write a weight of any storage into `out` [E, D], in the dtype of `out`."""
    if isinstance(weight, Tensor):
        return out.copy_(weight)
    return weight.dense(out)
