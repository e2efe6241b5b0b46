"""The calls of the gated linear unit whose kernels are compiled for every card."""

import torch

from strop.ops.glu import Activation, glu
from strop.ops.glu import triton as kernels
from strop.testing.gpu.launch import Launch, on_card


def _call(
    N: int, F: int, activation: Activation = "silu", dtype: torch.dtype = torch.bfloat16
) -> None:
    gate_up = on_card(N, 2 * F, dtype=dtype).requires_grad_()
    act = glu(gate_up, activation, impl="triton")
    act.backward(torch.empty_like(act))
    dact, again = torch.empty_like(act), torch.empty_like(act)
    kernels.backward(dact, gate_up.detach(), activation, act=again, overwrite=True)


LAUNCHES = [
    Launch("Llama-3-8B", lambda: _call(4096, 14336)),
    Launch("Llama-3-8B in float16", lambda: _call(4096, 14336, dtype=torch.float16)),
    Launch("Llama-3-8B in float32", lambda: _call(4096, 14336, dtype=torch.float32)),
    Launch("Gemma-2-9B", lambda: _call(4096, 14336, "gelu_tanh")),
    Launch("GEGLU by the error function", lambda: _call(4096, 4096, "gelu")),
    Launch("SmolLM2-135M", lambda: _call(4096, 1536)),
    Launch("4,095 features", lambda: _call(7, 4095), aligned=False),
]
