"""A packed weight made dense in plain PyTorch: the definition."""

from torch import Tensor

from strop.ops.dequantize.packed import Packed, unpack


def dequantize(codes: Tensor, weight: Packed, out: Tensor) -> Tensor:
    """See `strop.ops.dequantize`."""
    count = weight.shape.numel()
    index = unpack(codes, weight.bits, count)
    scale = weight.scales().repeat_interleave(weight.group)[:count]
    return out.copy_((weight.table[index] * scale).view(weight.shape))
