"""The calls of the rotary embedding whose kernels are compiled for every card."""

import torch

from strop.ops.rope import rope
from strop.ops.rope import triton as kernels
from strop.testing.gpu.launch import Launch, on_card


def _call(
    N: int,
    H: int,
    C: int,
    P: int | None = None,
    dtype: torch.dtype = torch.bfloat16,
    beside: int = 0,
) -> None:
    """Turn heads of a buffer, which has K heads of values beside them, and a fresh copy."""
    x = on_card(N, H, C, dtype=dtype, beside=beside)
    cos, sin = on_card(2, N, C // 2 if P is None else P, dtype=torch.float32)
    y = rope(x.requires_grad_(), cos, sin, impl="triton")
    y.backward(torch.empty_like(y))
    kernels.rotate_(x.detach(), cos, sin, inverse=True)


LAUNCHES = [
    Launch("Llama-3-8B", lambda: _call(4096, 40, 128, beside=1024)),
    Launch("Llama-3-8B in float16", lambda: _call(4096, 40, 128, dtype=torch.float16)),
    Launch("Llama-3-8B in float32", lambda: _call(4096, 40, 128, dtype=torch.float32)),
    Launch("SmolLM2-135M", lambda: _call(4096, 12, 64, beside=192)),
    Launch("Gemma-2-9B", lambda: _call(4096, 24, 256, beside=2048)),
    Launch("Phi-4-mini", lambda: _call(4096, 32, 128, P=48, beside=1024)),
    Launch("heads of 46", lambda: _call(7, 3, 46), aligned=False),
]
