"""The calls of the scored head whose kernels are compiled for every card."""

import torch

from strop.ops.linear_log_prob import linear_log_prob
from strop.testing.gpu.launch import Launch, on_card


def _call(
    D: int,
    V: int,
    *,
    dtype: torch.dtype = torch.bfloat16,
    softcap: float | None = None,
    trained: bool = False,
    bias: bool = False,
) -> None:
    hidden = on_card(256, D, dtype=dtype).requires_grad_()
    weight = on_card(V, D, dtype=dtype).requires_grad_(trained)
    out = linear_log_prob(
        hidden,
        weight,
        on_card(256, dtype=torch.int64),
        bias=on_card(V, dtype=dtype) if bias else None,
        softcap=softcap,
        impl="triton",
    )
    out.log_prob.sum().backward()


LAUNCHES = [
    Launch("Llama-3-8B", lambda: _call(4096, 128_256)),
    Launch("Llama-3-8B in float32", lambda: _call(4096, 128_256, dtype=torch.float32)),
    Launch("Llama-3-8B, its head trained", lambda: _call(4096, 128_256, trained=True)),
    Launch("Gemma-2-9B", lambda: _call(3584, 256_000, softcap=30.0)),
    Launch("GPT-2's vocabulary with a bias", lambda: _call(768, 50_257, bias=True), False),
]
