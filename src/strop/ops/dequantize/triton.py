"""A packed weight made dense on a GPU: a program widens a run of codes, its tables in shared memory.

No multiply is fused with an add: each rounds by itself, as the definition says, so that the result
is the reference's to the bit.
"""

import math

import triton
import triton.language as tl
from torch import Tensor

from strop.core.dataless import launches
from strop.ops.dequantize.packed import Packed, code_bytes

BLOCK = 4096
"""Weights of a program of two warps: their low bits are one load of 128 bits to each of 64 lanes, or
two to each of 32."""


@triton.jit
def _dequantize_kernel(
    Low, High, Table, ScaleCodes, ScaleTable, Factors, Out, offset, count, low_bytes, high_bytes,
    BITS: tl.constexpr, GROUP: tl.constexpr, SCALE_GROUP: tl.constexpr, NESTED: tl.constexpr,
    UNIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Weights that share a scale lie in units of UNIT, a power of two that divides both sizes."""
    first = tl.program_id(0).to(tl.int64) * BLOCK
    at = first + tl.arange(0, BLOCK)
    if BITS == 8:
        code = tl.load(Low + at, mask=at < low_bytes, other=0).to(tl.int32)
    else:
        low_at = first // 2 + tl.arange(0, BLOCK // 2)
        pair = tl.load(Low + low_at, mask=low_at < low_bytes, other=0).to(tl.int32)
        code = tl.interleave(pair >> 4, pair & 15)
    if BITS == 5 or BITS == 6:
        WIDTH: tl.constexpr = BITS - 4
        EACH: tl.constexpr = 8 // WIDTH
        high_at = first // EACH + tl.arange(0, BLOCK // EACH)
        several = tl.load(High + high_at, mask=high_at < high_bytes, other=0).to(tl.int32)
        high = several[:, None] >> (WIDTH * tl.arange(0, EACH))[None, :] & (2**WIDTH - 1)
        code = code | tl.reshape(high, (BLOCK,)) << 4
    value = tl.gather(tl.load(Table + tl.arange(0, 2**BITS)), code, 0)

    unit_at = first + UNIT * tl.arange(0, BLOCK // UNIT)
    there, group = unit_at < count, unit_at // GROUP
    if NESTED:
        scale_code = tl.load(ScaleCodes + group, mask=there, other=0).to(tl.int32)
        if GROUP * SCALE_GROUP % BLOCK == 0:  # one factor for all
            factor = tl.load(Factors + first // (GROUP * SCALE_GROUP), mask=first < count)
        else:
            factor = tl.load(Factors + group // SCALE_GROUP, mask=there, other=0.0)
        scale = tl.load(ScaleTable + scale_code, mask=there, other=0.0) * factor + offset
    else:
        scale = tl.load(ScaleCodes + group, mask=there, other=0.0)
    if BLOCK > UNIT:  # read once, then passed on in shared memory to the lanes that need it
        scale = tl.gather(scale, tl.arange(0, BLOCK // UNIT), 0)
    scaled = tl.reshape(value, (BLOCK // UNIT, UNIT)) * scale[:, None]
    dense = tl.reshape(scaled, (BLOCK,)).to(Out.dtype.element_ty)
    tl.store(Out + at, dense, mask=at < count)


def dequantize(codes: Tensor, weight: Packed, out: Tensor) -> Tensor:
    """See `strop.ops.dequantize`."""
    count, bits = weight.shape.numel(), weight.bits
    low_bytes = count if bits == 8 else (count + 1) // 2
    flat, scales = codes.view(-1), weight.scale_codes.view(-1)
    nested = weight.scale_table is not None and weight.factors is not None
    if count and launches(out):
        _dequantize_kernel[(triton.cdiv(count, BLOCK),)](
            flat, flat[low_bytes:] if 4 < bits < 8 else flat, weight.table, scales,
            weight.scale_table if nested else scales, weight.factors if nested else scales,
            out, weight.offset, count, low_bytes, code_bytes(count, bits) - low_bytes,
            BITS=bits, GROUP=weight.group, SCALE_GROUP=weight.scale_group, NESTED=nested,
            UNIT=math.gcd(weight.group, BLOCK), BLOCK=BLOCK, num_warps=2, enable_fp_fusion=False,
        )  # fmt: skip
    return out
