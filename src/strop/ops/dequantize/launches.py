"""The calls of dequantisation whose kernels are compiled for every card."""

import torch

from strop.ops.dequantize import dequantize
from strop.ops.dequantize.packed import Packed, code_bytes
from strop.testing.gpu.launch import Launch, on_card


def _call(
    E: int, D: int, bits: int = 4, *, nested: bool = True, dtype: torch.dtype = torch.bfloat16
) -> None:
    count, group = E * D, 64
    blocks = -(-count // group)
    weight = Packed(
        codes=on_card(code_bytes(count, bits), dtype=torch.uint8),
        table=on_card(2**bits, dtype=torch.float32),
        scale_codes=on_card(blocks, dtype=torch.uint8 if nested else torch.float32),
        scale_table=on_card(256, dtype=torch.float32) if nested else None,
        factors=on_card(-(-blocks // 256), dtype=torch.float32) if nested else None,
        shape=torch.Size((E, D)),
        bits=bits,
        group=group,
    )
    dequantize(weight, dtype=dtype, impl="triton")


LAUNCHES = [
    Launch("Llama-3-8B", lambda: _call(14336, 4096)),
    Launch("Llama-3-8B in float32", lambda: _call(14336, 4096, dtype=torch.float32)),
    Launch("Llama-3-8B, scales in float32", lambda: _call(14336, 4096, nested=False)),
    Launch("Llama-3-8B in 5 bits", lambda: _call(14336, 4096, 5)),
    Launch("Llama-3-8B in 6 bits", lambda: _call(14336, 4096, 6)),
    Launch("Llama-3-8B in 8 bits", lambda: _call(14336, 4096, 8)),
    Launch("77 x 33 weights", lambda: _call(77, 33), aligned=False),
]
