"""Inputs on which every implementation of the mixed product is tested."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Case:
    """Shape and formats of one call."""

    N: int
    D: int
    E: int
    left: torch.dtype = torch.bfloat16
    right: torch.dtype = torch.float32
    transposed: tuple[bool, bool] = (False, True)
    """Whether `left` and `right` are views of transposed tensors."""
    beside: int = 0
    """Columns of something else between neighbouring rows of `left`, as between q and k."""

    def inputs(self, device: str) -> tuple[Tensor, Tensor]:
        """Return `left` [N, D] and `right` [D, E], the same ones each time."""
        rng = torch.Generator().manual_seed(0)

        def normal(rows: int, cols: int, transposed: bool, beside: int = 0) -> Tensor:
            if transposed:
                return normal(cols, rows, False).T
            return torch.randn(rows, cols + beside, generator=rng).to(device)[:, :cols]

        left = normal(self.N, self.D, self.transposed[0], self.beside).to(self.left)
        return left, normal(self.D, self.E, self.transposed[1]).to(self.right)


_BF16, _F16, _F32 = torch.bfloat16, torch.float16, torch.float32
TESTED = [
    Case(1, 1, 1),
    Case(37, 131, 5, beside=9),  # neither powers of two nor multiples of a vector width
    Case(37, 131, 5, _F16, transposed=(False, False)),
    Case(5, 67, 131, _F32, _BF16, transposed=(True, False)),  # the gradient of A
    Case(40, 70, 37),
    Case(
        131, 600, 70, beside=8
    ),  # more columns than stand in registers, more features than in a block
    Case(150, 131, 16, transposed=(True, False)),  # the gradient of B
    Case(70, 150, 200, _F32, _BF16, transposed=(True, False)),
    Case(7, 3000, 5),  # several programs share a sum
    Case(5, 2500, 70, _F32, _F16, transposed=(True, False)),
    Case(0, 8, 2),
    Case(4, 0, 2),
]
