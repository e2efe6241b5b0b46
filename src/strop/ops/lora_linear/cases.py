"""Inputs on which every implementation of a linear layer with an adapter is tested and timed."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strop.ops.lora_linear.parts import LinearParts


@dataclass(frozen=True, slots=True)
class Case:
    """Shape, dtypes and kind of adapter of one layer."""

    N: int
    D: int
    E: int
    R: int | None = None
    """None: no adapter."""
    dtype: torch.dtype = torch.float32
    weight_dtype: torch.dtype | None = None
    """None: the same as `dtype`."""
    adapter_dtype: torch.dtype | None = None
    """None: the same as `dtype`."""
    has_bias: bool = False
    dora: bool = False
    scale: float = 2.0
    gap: int = 1
    """Distance between neighbouring features of `x` in memory."""

    def inputs(self, device: str) -> tuple[Tensor, ...]:
        """Return `x` [N, D], the same one each time."""
        rng = torch.Generator(device).manual_seed(0)
        x = torch.randn(self.N, self.D * self.gap, generator=rng, device=device)
        return (x.to(self.dtype)[:, :: self.gap],)

    def frozen(self, device: str) -> tuple[Tensor, Tensor | None]:
        """Return the weight [E, D] and the bias [E]."""
        rng = torch.Generator(device).manual_seed(1)
        weight = torch.randn(self.E, self.D, generator=rng, device=device) / self.D**0.5
        bias = torch.randn(self.E, generator=rng, device=device)
        dtype = self.weight_dtype or self.dtype
        return weight.to(dtype), bias.to(dtype) if self.has_bias else None

    def trained(self, device: str) -> tuple[Tensor, ...]:
        """Return A [R, D] and B [E, R], with DoRA the magnitude [E], without an adapter nothing."""
        if self.R is None:
            return ()
        rng = torch.Generator(device).manual_seed(2)
        a = torch.randn(self.R, self.D, generator=rng, device=device) / self.D**0.5
        b = torch.randn(self.E, self.R, generator=rng, device=device) / 4
        magnitude = torch.rand(self.E, generator=rng, device=device) + 0.5
        dtype = self.adapter_dtype or self.dtype
        trained = (a, b, magnitude) if self.dora else (a, b)
        return tuple(t.to(dtype) for t in trained)

    def part(self, *trained: Tensor, device: str = "cpu", dropout: float = 0.0) -> LinearParts:
        """Return the layer with the tensors of `trained`, or others in their place."""
        weight, bias = self.frozen(device)
        a, b, magnitude = (*trained, None, None, None)[:3]
        return LinearParts(weight, bias, a, b, self.scale, magnitude, dropout)

    def settings(self, device: str) -> dict[str, Any]:
        """Return the keyword arguments of the call."""
        return {"part": self.part(*self.trained(device), device=device)}


_BF16, _F16 = torch.bfloat16, torch.float16
TESTED = [
    Case(1, 1, 1, R=1),
    Case(37, 29, 43),
    Case(37, 29, 43, has_bias=True),
    Case(37, 29, 43, R=5),  # neither a power of two nor a multiple of a vector width
    Case(37, 29, 43, R=5, has_bias=True, gap=2),
    Case(37, 29, 43, R=9, scale=16 / 9**0.5),  # rank-stabilised
    Case(37, 29, 43, R=5, has_bias=True, dora=True),
    Case(37, 29, 43, R=5, dtype=torch.float64, has_bias=True),
    Case(37, 29, 43, R=5, dtype=torch.float64, has_bias=True, dora=True),
    Case(37, 29, 43, R=5, weight_dtype=_F16, has_bias=True),
    Case(37, 29, 43, R=5, weight_dtype=_BF16, has_bias=True, dora=True),
    Case(37, 29, 43, weight_dtype=_BF16),
    Case(64, 48, 96, dtype=_BF16, has_bias=True),
    Case(64, 48, 96, R=8, dtype=_BF16, has_bias=True),
    Case(64, 48, 96, R=8, dtype=_BF16, adapter_dtype=torch.float32),
    Case(64, 48, 96, R=8, dtype=_BF16, adapter_dtype=torch.float32, has_bias=True, dora=True),
    Case(64, 48, 96, R=8, dtype=_F16),
    Case(0, 8, 6, R=2),
]
TIMED = [
    Case(2048, 576, 576, R=16),
    Case(2048, 576, 1536, R=16),
    Case(2048, 1536, 576, R=16),
    Case(2048, 576, 1536, R=16, weight_dtype=_BF16),
    Case(2048, 576, 1536, R=16, dora=True),
]
