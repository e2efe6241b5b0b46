"""Inputs on which every implementation of attention among segments is tested and timed."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strop.ops.segment_attention.segments import Segments


@dataclass(frozen=True, slots=True)
class Case:
    """Segments, heads and dtype of one call."""

    lengths: tuple[int, ...]
    parents: tuple[int | None, ...] | None = None
    """None: no segment continues another."""
    H: int = 4
    K: int = 2
    C: int = 16
    dtype: torch.dtype = torch.float32
    window: int | None = None
    softcap: float | None = None
    scale: float | None = None
    buffer: bool = False
    """Whether q, k and v are views of one buffer of rows, as a product of all three leaves them."""

    def segments(self) -> Segments:
        """Return the segments."""
        return Segments(self.lengths, self.parents or (None,) * len(self.lengths))

    def inputs(self, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return q [N, H, C], k and v [N, K, C], the same ones each time."""
        rng = torch.Generator(device).manual_seed(0)
        heads = [self.H, self.K, self.K]
        shape = sum(self.lengths), sum(heads), self.C
        qkv = torch.randn(shape, generator=rng, device=device).to(self.dtype)
        q, k, v = qkv.split(heads, 1)
        return (q, k, v) if self.buffer else (q.contiguous(), k.contiguous(), v.contiguous())

    def settings(self, device: str) -> dict[str, Any]:
        """Return the keyword arguments of the call."""
        return {
            "segments": self.segments(),
            "scale": self.scale,
            "window": self.window,
            "softcap": self.softcap,
        }


_TREE = (37, 5, 1, 20, 3, 9, 1)
_PARENTS = (None, 0, 1, 2, 1, 0, None)
"""Three generations below a root, a segment of one token on the way, and a root by itself."""

TESTED = [
    Case((1,), H=1, K=1, C=1),
    Case((61,), H=3, K=3, C=23),  # neither a power of two nor a multiple of a vector width
    Case((61,), H=3, K=3, C=23, scale=0.3),
    Case((7, 1, 50)),
    Case((7, 1, 50), buffer=True),
    Case(_TREE, _PARENTS),
    Case(_TREE, _PARENTS, H=6, K=1, buffer=True),
    Case(_TREE, _PARENTS, dtype=torch.float64, buffer=True),
    Case(_TREE, _PARENTS, window=6, buffer=True),  # cuts into segments
    Case(_TREE, _PARENTS, window=2),
    Case(_TREE, _PARENTS, window=63),  # as far as the longest path: nothing is cut
    Case(_TREE, _PARENTS, window=62),
    Case(_TREE, _PARENTS, softcap=1.5, buffer=True),
    Case(_TREE, _PARENTS, dtype=torch.float64, window=9, softcap=1.5),
    Case(_TREE, _PARENTS, dtype=torch.bfloat16, window=9, softcap=1.5),
    Case((300, 290), window=30, H=2, K=1),  # more than one tile
    Case((300, 290), (None, 0), softcap=2.0, H=2, K=1),
    Case((300, 290), (None, 0), dtype=torch.bfloat16, softcap=2.0, H=2, K=1),
    Case(()),
]
COMPILED_IN_16_BITS = [
    Case(
        (61, 1, 30), H=3, K=3, C=23, dtype=torch.bfloat16
    ),  # no pairs of features, of keys, of queries
    Case(_TREE, _PARENTS, H=6, K=1, dtype=torch.bfloat16, buffer=True),
    Case((300, 95), dtype=torch.bfloat16, window=30, H=2, K=1, C=64),
]
"""Held to the error of eager PyTorch only where C++ computes them."""
FLASH_IN_16_BITS = [
    Case((76,), K=4, dtype=torch.bfloat16),
    Case(_TREE, _PARENTS, K=4, dtype=torch.bfloat16),
    Case((300, 100, 50), (None, 0, 0), K=4, dtype=torch.float16, buffer=True),
]
"""Compared with PyTorch's flash attention under a mask, which rounds more than the reference."""
TIMED = [
    Case((2048,), H=9, K=3, C=64, buffer=True),
    Case((512,) * 4, H=9, K=3, C=64, buffer=True),
    Case((1024, 256, 256, 256, 256), (None, 0, 0, 0, 0), H=9, K=3, C=64, buffer=True),
    Case((2048,), H=4, K=1, C=256, window=512, buffer=True),
    Case((1024,), H=8, K=4, C=256, softcap=50.0, buffer=True),
]
