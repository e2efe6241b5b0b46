"""Inputs on which every implementation of the gated linear unit is tested and timed."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strop.ops.glu import Activation


@dataclass(frozen=True, slots=True)
class Case:
    """Shape, dtype and activation of one call."""

    N: int
    F: int
    activation: Activation
    dtype: torch.dtype = torch.float32
    gap: int = 1
    """Distance between neighbouring features of `gate_up` in memory."""
    beside: int = 0
    """Features of something else between neighbouring rows."""

    def inputs(self, device: str) -> tuple[Tensor]:
        """Return `gate_up` [N, 2F], the same one each time."""
        rng = torch.Generator(device).manual_seed(0)
        row = 2 * self.F * self.gap
        buffer = 2 * torch.randn(self.N, row + self.beside, generator=rng, device=device)
        return (buffer.to(self.dtype)[:, : row : self.gap],)

    def settings(self, device: str) -> dict[str, Any]:
        """Return the keyword arguments of the call."""
        return {"activation": self.activation}


ACTIVATIONS: list[Activation] = ["silu", "gelu_tanh", "gelu"]
TESTED = [
    case
    for a in ACTIVATIONS
    for case in (
        Case(1, 1, a),
        Case(7, 123, a),  # neither a power of two nor a multiple of a vector width
        Case(7, 123, a, torch.float64),
        Case(64, 256, a, torch.bfloat16),
        Case(64, 256, a, torch.float16, gap=2),
        Case(300, 77, a, beside=5),
        Case(7, 77, a, gap=2),
        Case(3, 70_001, a),
        Case(0, 4, a),
    )
]
TIMED = [
    Case(2048, 1536, "silu"),
    Case(2048, 2048, "gelu_tanh"),
    Case(512, 14336, "silu"),
]
