"""Inputs on which every implementation of RMS normalisation is tested and timed."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Case:
    """Shape and dtype of one call."""

    N: int
    D: int
    dtype: torch.dtype = torch.float32
    H: int | None = None
    """Heads, or None for rows of `D` without them."""
    gap: int = 1
    """Distance between neighbouring features of `x` in memory."""
    beside: int = 0
    """Features of something else between neighbouring rows, as between q and q in a qkv buffer."""
    unit_offset: bool = False
    eps: float = 1e-5

    def inputs(self, device: str) -> tuple[Tensor, Tensor]:
        """Return `x` [N, D] or [N, H, D] and `weight` [D], the same ones each time."""
        rng = torch.Generator(device).manual_seed(0)
        row = self.D * self.gap * (self.H or 1)
        buffer = torch.randn(self.N, row + self.beside, generator=rng, device=device)
        x = buffer.to(self.dtype)[:, : row : self.gap]
        weight = torch.rand(self.D, generator=rng, device=device) + 0.5
        return x if self.H is None else x.unflatten(1, (self.H, self.D)), weight.to(self.dtype)

    def settings(self, device: str) -> dict[str, Any]:
        """Return the keyword arguments of the call."""
        return {"unit_offset": self.unit_offset, "eps": self.eps}


TESTED = [
    Case(1, 1, eps=0.5),  # with a small eps its gradient is nothing but cancellation
    Case(5, 123),  # neither a power of two nor a multiple of a vector width
    Case(5, 123, unit_offset=True),
    Case(5, 123, torch.float64),
    Case(300, 67, beside=9),  # rows are not neighbours
    Case(40, 48, H=3, beside=50),
    Case(40, 48, torch.bfloat16, H=3, beside=50, unit_offset=True),
    Case(64, 512, torch.bfloat16),
    Case(64, 512, torch.float16),
    Case(64, 512, torch.float16, gap=2, unit_offset=True),
    Case(64, 77, gap=2),
    Case(2, 70_001),
    Case(0, 8),
]
TIMED = [
    Case(2048, 576),
    Case(2048, 640, unit_offset=True),
    Case(2048, 256, H=4, beside=512, unit_offset=True),
    Case(2048, 4096),
]
