"""A packed weight made dense on CPU: C++ where there is a compiler, else PyTorch in pieces."""

from pathlib import Path

import torch
from torch import Tensor

from strop.core import native
from strop.ops.dequantize.packed import Packed, unpack

SOURCE = Path(__file__).with_name("cpu.cpp")
NAMES = {torch.float32: "dequantize_float", torch.bfloat16: "dequantize_bfloat16"}
SIGNATURE = "ppppppqqqfii"
PIECE = 1 << 20
"""Weights made dense at once in plain PyTorch, so that what lies between takes little memory."""


def dequantize(codes: Tensor, weight: Packed, out: Tensor) -> Tensor:
    """See `strop.ops.dequantize`."""
    name = NAMES.get(out.dtype)
    run = name and native.function(SOURCE, name, SIGNATURE)
    if not run:
        return _plain(codes, weight, out)
    parts = (codes, weight.table, weight.scale_codes, weight.scale_table, weight.factors, out)
    count = weight.shape.numel()
    run(
        *parts, count, weight.group, weight.scale_group, weight.offset, weight.bits,
        torch.get_num_threads(),
    )  # fmt: skip
    return out


def _plain(codes: Tensor, weight: Packed, out: Tensor) -> Tensor:
    count, G = weight.shape.numel(), weight.group
    scales, flat = weight.scales(), out.view(-1)
    if weight.bits == 4:
        pairs = torch.cartesian_prod(weight.table, weight.table)  # [256, 2]
    step = PIECE // (8 * G) * 8 * G or 8 * G
    for start in range(0, count, step):
        end = min(start + step, count)
        if weight.bits == 4:
            values = pairs[codes.view(-1)[start // 2 : (end + 1) // 2].int()].view(-1)
        else:
            values = weight.table[_index(codes.view(-1), weight.bits, count, start, end)]
        scale = scales[start // G : -(-end // G)].repeat_interleave(G)[: end - start]
        flat[start:end] = values[: end - start].mul_(scale)
    return out


def _index(codes: Tensor, bits: int, count: int, start: int, end: int) -> Tensor:
    """Return the codes of the weights from `start`, a multiple of 8, to `end`."""
    if bits == 8:
        return codes[start:end].int()
    half, width = (count + 1) // 2, bits - 4
    low = codes[start // 2 : (end + 1) // 2]
    high = codes[half + start * width // 8 : half - (-end * width // 8)]
    return unpack(torch.cat((low, high)), bits, end - start)
