"""Weights on which every implementation of dequantisation is tested and timed."""

from dataclasses import dataclass

import torch

from strop.ops.dequantize.packed import Packed, code_bytes


@dataclass(frozen=True, slots=True)
class Case:
    """Shape and storage of one weight."""

    E: int
    D: int
    bits: int = 4
    group: int = 64
    nested: bool = True
    """Scales in 8 bits with a factor for 256 of them, or in float32."""
    offset: float = 0.0

    def weight(self, device: str = "cpu") -> Packed:
        """Return a weight of random codes, the same one each time."""
        rng = torch.Generator().manual_seed(0)

        def some(count: int) -> torch.Tensor:
            codes = torch.randint(0, 256, (count,), dtype=torch.uint8, generator=rng)
            return codes.to(device)

        def normal(count: int) -> torch.Tensor:
            return torch.randn(count, generator=rng).to(device)

        count = self.E * self.D
        blocks = -(-count // self.group)
        return Packed(
            codes=some(code_bytes(count, self.bits)),
            table=normal(2**self.bits),
            scale_codes=some(blocks) if self.nested else normal(blocks),
            scale_table=normal(256) if self.nested else None,
            factors=normal(-(-blocks // 256)).abs() if self.nested else None,
            shape=torch.Size((self.E, self.D)),
            bits=self.bits,
            group=self.group,
            offset=self.offset,
        )


TESTED = [
    Case(1, 1),
    Case(3, 5, offset=0.3),  # one group, not full, an odd number of weights
    Case(67, 33, offset=0.1),  # rows end within groups
    Case(40, 96, 5, 32),
    Case(40, 96, 6, 32, offset=0.1),
    Case(40, 96, 8, 32),
    Case(9, 128, 4, 128, nested=False),
    Case(9, 40, 6, 64),
    Case(9, 41, 5, 64),
    Case(640, 2048, 4, 64),  # in plain PyTorch more than one piece
    Case(640, 2048, 5, 128),
    Case(7, 1111, 4, 24, offset=0.1),  # groups of no power of two
    Case(5, 1003, 4, 7, nested=False),
    Case(5, 2048, 6, 8192, nested=False),  # groups larger than a program's share on a GPU
    Case(7, 1111, 8, 48),
]
TIMED = [Case(1536, 1536, bits) for bits in (4, 5, 6, 8)] + [Case(4096, 4096)]
