"""The calls of RMS normalisation whose kernels are compiled for every card."""

import torch

from strop.ops.rms_norm import rms_norm
from strop.testing.gpu.launch import Launch, on_card

_NARROW = (torch.bfloat16, torch.float16)


def _call(
    *shape: int, dtype: torch.dtype = torch.bfloat16, beside: int = 0, trained: bool = False
) -> None:
    x = on_card(*shape, dtype=dtype, beside=beside).requires_grad_()
    weight = on_card(shape[-1], dtype=dtype).requires_grad_(trained)
    y = rms_norm(x, weight, impl="triton")
    y.backward(torch.empty_like(y))


LAUNCHES = [
    Launch("Llama-3-8B", lambda: _call(4096, 4096, trained=True)),
    Launch("Llama-3-8B in float16", lambda: _call(4096, 4096, dtype=torch.float16)),
    Launch("Llama-3-8B in float32", lambda: _call(4096, 4096, dtype=torch.float32)),
    Launch("SmolLM2-135M", lambda: _call(4096, 576)),
    Launch("Llama-3-70B", lambda: _call(4096, 8192)),
    Launch("Llama-3-405B", lambda: _call(4096, 16384)),
    Launch("heads of Qwen3", lambda: _call(4096, 32, 128, beside=2048)),
    Launch("4,095 features", lambda: _call(7, 4095), aligned=False),
]
