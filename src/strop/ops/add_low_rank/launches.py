"""The calls of the added product of low rank whose kernels are compiled for every card."""

import torch

from strop.ops.add_low_rank import add_low_rank_
from strop.testing.gpu.launch import Launch, on_card


def _call(
    E: int, R: int = 16, *, dtype: torch.dtype = torch.bfloat16, transposed: bool = True
) -> None:
    out = on_card(4096, E, dtype=dtype, beside=1024)
    left = on_card(4096, R, dtype=torch.float32)
    right = on_card(E, R, dtype=torch.float32).T if transposed else on_card(R, E, dtype=left.dtype)
    add_low_rank_(out, left, right, scale=2.0, impl="triton")


LAUNCHES = [
    Launch("Llama-3-8B, forward", lambda: _call(14336)),
    Launch("Llama-3-8B, backward", lambda: _call(4096, transposed=False)),
    Launch("Llama-3-8B in float16, rank 64", lambda: _call(4096, 64, dtype=torch.float16)),
    Launch("4,095 features, rank 6", lambda: _call(4095, 6), aligned=False),
]
