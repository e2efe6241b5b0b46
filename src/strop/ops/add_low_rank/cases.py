"""Inputs on which every implementation of the added product of low rank is tested."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Case:
    """Shape and dtypes of one call."""

    N: int
    E: int
    R: int
    dtype: torch.dtype = torch.float32
    adapter_dtype: torch.dtype = torch.float32
    beside: int = 0
    """Columns of something else between neighbouring rows of `out`, as between q and k."""
    transposed: bool = True
    """`right` is B^T of B [E, R], or is A [R, E]."""

    def inputs(self, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return `out` [N, E], `left` [N, R] and `right` [R, E], the same ones each time."""
        rng = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=rng).to(device)

        out = normal(self.N, self.E + self.beside).to(self.dtype)[:, : self.E]
        left = normal(self.N, self.R).to(self.adapter_dtype)
        right = normal(self.E, self.R).T if self.transposed else normal(self.R, self.E)
        return out, left, right.to(self.adapter_dtype)


TESTED = [
    Case(1, 1, 1),
    Case(67, 131, 5),  # neither powers of two nor multiples of a vector width
    Case(67, 131, 5, transposed=False, beside=3),
    Case(70, 200, 16, torch.bfloat16, beside=56),
    Case(70, 200, 16, torch.float16, transposed=False),
    Case(65, 129, 70, torch.bfloat16),
    Case(64, 96, 8, torch.bfloat16, torch.bfloat16),
    Case(30, 40, 4, torch.float64, torch.float64),
    Case(0, 8, 2),
]
