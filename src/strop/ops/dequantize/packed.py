"""A weight in few bits: codes into a table of numbers, and a scale for each group of weights.

    weight[i] = table[code[i]] * scale[i // G]
    scale[j] = scale_table[scale_code[j]] * factor[j // S] + offset       or a plain number

Weights are numbered row by row. Their codes lie in one row of bytes: 8 bits one to a byte; else
first the low four bits of all, two to a byte with the earlier one above, as bitsandbytes has it;
then what is left of each, earlier ones in lower bits: eight to a byte at 5 bits, four at 6 bits.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from strop.core.errors import ShapeError

BITS = (4, 5, 6, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A weight [E, D] in few bits."""

    codes: Tensor
    """uint8, as long as `code_bytes` says."""
    table: Tensor
    """[2 ** bits] float32."""
    scale_codes: Tensor
    """[ceil(E D / G)] uint8, or the scales themselves in float32."""
    scale_table: Tensor | None
    """[256] float32; None where the scales are stored themselves."""
    factors: Tensor | None
    """[ceil(E D / (G S))] float32; None where the scales are stored themselves."""
    shape: torch.Size
    bits: int
    group: int
    """G, weights that share a scale."""
    scale_group: int = 256
    """S, scales that share a factor."""
    offset: float = 0.0

    def scales(self, first: int = 0, last: int | None = None) -> Tensor:
        """Return the scale of each group in float32, or of those from `first` to before `last`."""
        if self.scale_table is None or self.factors is None:
            return self.scale_codes[first:last].float()
        codes, S = self.scale_codes.flatten()[first:last].int(), self.scale_group
        begin, end = first // S, -(-(first + codes.numel()) // S)
        factors = self.factors[begin:end].repeat_interleave(S)[first - begin * S :]
        return self.scale_table[codes] * factors[: codes.numel()] + self.offset

    def rows(self, start: int, stop: int) -> "Packed":
        """Return some rows as a weight of their own, its scales as plain numbers.

        Args:
            start: the first row; G divides `start` D, so that no group lies in two weights.
            stop: the row after the last.
        """
        E, D = self.shape
        first, count = start * D, (min(stop, E) - start) * D
        if first % self.group:
            raise ShapeError(f"row {start} of {D} begins inside a group of {self.group} weights")
        codes, half = self.codes.flatten(), code_bytes(E * D, min(self.bits, 4))
        parts = [codes[first : first + count]]
        if self.bits < 8:
            parts = [codes[first // 2 : (first + count + 1) // 2]]
            width = self.bits - 4
            parts += [codes[half + first * width // 8 : half - (-(first + count) * width // 8)]]
        return replace(
            self,
            codes=torch.cat(parts),
            scale_codes=self.scales(first // self.group, -(-(first + count) // self.group)),
            scale_table=None,
            factors=None,
            shape=torch.Size((count // D, D)),
        )


def code_bytes(count: int, bits: int) -> int:
    """Return how many bytes the codes of `count` weights take."""
    return count if bits == 8 else (count + 1) // 2 + -(-count * (bits - 4) // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Return whole numbers below 2 ** bits as bytes; their count is a multiple of 8."""
    codes = codes.flatten().to(torch.uint8)
    if bits == 8:
        return codes
    low = codes & 15
    parts = [low[0::2] << 4 | low[1::2]]
    if bits > 4:
        each = 8 // (bits - 4)
        high = (codes >> 4).view(-1, each)
        byte = high[:, 0].clone()
        for i in range(1, each):
            byte |= high[:, i] << (i * (bits - 4))
        parts.append(byte)
    return torch.cat(parts)


def unpack(codes: Tensor, bits: int, count: int) -> Tensor:
    """Return the first `count` whole numbers of what `pack` made, as int32."""
    codes = codes.flatten()
    if bits == 8:
        return codes[:count].int()
    half = (count + 1) // 2
    pairs = codes[:half]
    low = torch.stack((pairs >> 4, pairs & 15), 1).flatten()[:count].int()
    if bits == 4:
        return low
    width = bits - 4
    shifts = torch.arange(0, 8, width, dtype=torch.uint8, device=codes.device)
    high = codes[half:, None] >> shifts & (2**width - 1)
    return low | high.flatten()[:count].int() << 4
