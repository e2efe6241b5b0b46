"""Inputs on which every implementation of the scored head is tested and timed."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Case:
    """Shape, dtypes and settings of one call."""

    M: int
    D: int
    V: int
    dtype: torch.dtype = torch.float32
    head_dtype: torch.dtype | None = None
    """None: the same as `dtype`."""
    gap: int = 1
    """Distance between neighbouring features of `hidden` in memory."""
    scale: float = 1.0
    softcap: float | None = None
    has_bias: bool = False

    def inputs(self, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return `hidden` [M, D], `weight` [V, D] and `targets` [M], the same ones each time."""
        rng = torch.Generator(device).manual_seed(0)
        hidden = torch.randn(self.M, self.D * self.gap, generator=rng, device=device)
        weight = 2 * torch.randn(self.V, self.D, generator=rng, device=device) / self.D**0.5
        targets = torch.randint(self.V, (self.M,), generator=rng, device=device)
        head_dtype = self.head_dtype or self.dtype
        return hidden.to(self.dtype)[:, :: self.gap], weight.to(head_dtype), targets

    def settings(self, device: str) -> dict[str, Any]:
        """Return the keyword arguments of the call."""
        rng = torch.Generator(device).manual_seed(1)
        bias = torch.randn(self.V, generator=rng, device=device).to(self.head_dtype or self.dtype)
        chosen: dict[str, Any] = {"scale": self.scale, "softcap": self.softcap}
        return chosen | ({"bias": bias} if self.has_bias else {})


TESTED = [
    Case(1, 1, 1),
    Case(37, 29, 123),  # neither a power of two nor a multiple of a vector width
    Case(37, 29, 123, gap=2),
    Case(37, 29, 123, has_bias=True),
    Case(37, 29, 123, scale=0.5, softcap=2.0, has_bias=True),
    Case(37, 29, 123, torch.float64, scale=0.5, softcap=2.0, has_bias=True),
    Case(64, 64, 515, torch.bfloat16),
    Case(64, 64, 515, torch.float16, softcap=3.0),
    Case(64, 64, 515, torch.float32, head_dtype=torch.bfloat16),
    Case(64, 64, 515, torch.bfloat16, head_dtype=torch.float32),
    Case(3, 16, 262_147),  # the largest vocabulary in use is Gemma's 262,144
    Case(0, 8, 11),
]
TIMED = [
    Case(512, 576, 49_152),
    Case(512, 576, 49_152, head_dtype=torch.bfloat16),
    Case(256, 640, 262_144),
]
