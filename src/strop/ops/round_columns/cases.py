"""Groups on which every implementation of rounding columns is tested and timed."""

from dataclasses import dataclass

import torch
from torch import Tensor

Inputs = tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Case:
    """Size of a group, its levels, and whether errors are passed on."""

    G: int
    E: int
    bits: int
    fed: bool
    zeros: bool = False
    """Some rows hold nothing but zeros."""

    def inputs(self, device: str) -> Inputs:
        """Return the arguments of the call, the same ones each time."""
        rng = torch.Generator(device).manual_seed(0)
        group = torch.randn(self.G, self.E, generator=rng, device=device)
        if self.zeros:
            group[:, ::3] = 0
        importance = torch.rand(self.G, generator=rng, device=device)
        feedback = torch.rand(self.G, self.G, generator=rng, device=device).triu(1) / 8
        feedback += torch.eye(self.G, device=device)
        factor = torch.full((self.E,), 1.1 * float(group.abs().max()), device=device)
        half = 2 ** (self.bits - 1)
        even = (torch.arange(2 * half, device=device) - half).float() / half
        table = even if self.bits == 8 else even * even.abs().sqrt()
        steps = torch.linspace(-1, 1, 255, device=device)
        multiples = torch.tensor([0.7, 0.8, 0.9, 1.0, 1.1], device=device)
        fed = feedback if self.fed else None
        return group, importance, fed, factor, table, steps, multiples


TESTED = [
    case
    for bits in (4, 5, 6, 8)
    for fed in (False, True)
    for case in (Case(1, 1, bits, fed), Case(32, 13, bits, fed), Case(64, 40, bits, fed, True))
]
TIMED = [Case(64, 1536, bits, True) for bits in (4, 5, 6, 8)] + [Case(32, 1536, 4, False)]
