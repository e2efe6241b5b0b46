"""Inputs on which every implementation of the rotary embedding is tested and timed."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Case:
    """Shape and dtype of one call."""

    N: int
    H: int
    C: int
    dtype: torch.dtype = torch.float32
    P: int | None = None
    """Pairs that are rotated; None: all `C // 2`."""
    gap: int = 1
    """Distance between neighbouring features of `x` in memory."""
    beside: int = 0
    """Features of something else between neighbouring rows, as in a qkv buffer."""

    def inputs(self, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return `x` [N, H, C], `cos` and `sin` [N, P], the same ones each time."""
        rng = torch.Generator(device).manual_seed(0)
        row = self.H * self.C * self.gap
        buffer = torch.randn(self.N, row + self.beside, generator=rng, device=device)
        x = buffer.to(self.dtype)[:, : row : self.gap].unflatten(1, (self.H, self.C))
        P = self.C // 2 if self.P is None else self.P
        angles = 100 * torch.rand(self.N, P, generator=rng, device=device)
        return x, angles.cos().to(self.dtype), angles.sin().to(self.dtype)

    def settings(self, device: str) -> dict[str, Any]:
        """Return the keyword arguments of the call."""
        return {}


TESTED = [
    Case(1, 1, 2),
    Case(7, 3, 46),  # neither a power of two nor a multiple of a vector width
    Case(7, 3, 46, torch.float64),
    Case(7, 3, 47, P=11),  # partial, and an odd number of features
    Case(300, 2, 16, P=8, beside=33),
    Case(7, 3, 46, gap=2),
    Case(40, 3, 64, torch.bfloat16, beside=10),
    Case(40, 3, 64, torch.float16, P=16),
    Case(2, 1, 4, P=0),
    Case(0, 2, 4),
]
TIMED = [
    Case(2048, 12, 64, beside=192),
    Case(2048, 5, 256, beside=256),
    Case(2048, 40, 128),
]
