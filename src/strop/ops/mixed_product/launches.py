"""The calls of the mixed product whose kernels are compiled for every card."""

import torch

from strop.ops.mixed_product import mixed_product
from strop.testing.gpu.launch import Launch, on_card


def _narrow(D: int, R: int = 16, dtype: torch.dtype = torch.bfloat16, beside: int = 0) -> None:
    """Multiply activations with A^T, or what comes back with B."""
    x = on_card(4096, D, dtype=dtype, beside=beside)
    mixed_product(x, on_card(R, D, dtype=torch.float32).T, impl="triton")
    mixed_product(x, on_card(D, R, dtype=torch.float32), impl="triton")


def _gradient(D: int, R: int = 16) -> None:
    """Sum products of rows over the tokens."""
    lifted = on_card(4096, R, dtype=torch.float32)
    mixed_product(lifted.T, on_card(4096, D), impl="triton")


LAUNCHES = [
    Launch("Llama-3-8B, narrowed", lambda: _narrow(4096)),
    Launch("Llama-3-8B in float16, keys", lambda: _narrow(1024, dtype=torch.float16, beside=5120)),
    Launch("Llama-3-8B, gradient of A", lambda: _gradient(14336)),
    Launch("4,095 features, rank 6", lambda: _narrow(4095, 6), aligned=False),
]
