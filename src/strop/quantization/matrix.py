"""One weight into few bits: signed scales, chosen where the weighted error is least."""

import torch
from torch import Tensor

from strop.core.errors import DataError, UnsupportedError
from strop.ops.dequantize.packed import Packed, pack
from strop.quantization.formats import SCALE_GROUP, Format, scale_table

MULTIPLES = tuple(0.7 + 0.025 * i for i in range(17))
"""Of the largest weight of a group: the scales that are tried."""
ROOM = max(MULTIPLES)


def quantize(weight: Tensor, form: Format, *, energy: Tensor | None = None) -> Packed:
    """Store a weight in few bits.

        minimise over the scales   sum_ij energy[j] * (weight[i, j] - stored[i, j])**2

    Each weight takes the nearest level; each group the best of a few multiples of its largest
    weight, signed, as the 8 bits of a scale can say them.

    Args:
        weight: [E, D] floating point, finite.
        form: how it is stored; D is a multiple of its group.
        energy: [D] mean square of each input, which weighs the errors; None weighs all the same.

    Returns:
        Codes, scales and tables, made by the device of `weight`.

    Raises:
        DataError: a weight is NaN or infinite.
        UnsupportedError: D is no multiple of the group.
    """
    E, D = weight.shape
    if D % form.group:
        raise UnsupportedError(
            f"a weight {[E, D]} cannot be stored as {form.name}: its rows are no whole number of "
            f"groups of {form.group}; choose a format with smaller groups or leave it in 16 bits"
        )
    if not weight.isfinite().all():
        place = (~weight.isfinite()).nonzero()[0].tolist()
        raise DataError(
            f"the weight is {weight[tuple(place)].item()} at {place}; it must be finite"
        )
    x = weight.float().reshape(-1, form.group)  # [E D / G, G]
    importance = torch.ones(D) if energy is None else energy.float().cpu()
    weights = importance.to(x.device).expand(E, D).reshape(x.shape)
    table, steps = form.table().to(x.device), scale_table().to(x.device)
    largest = _signed_largest(x) * table[table.abs().argmax()]
    factors = _factors(largest)
    each = factors.repeat_interleave(SCALE_GROUP)[: len(x)]
    best_error = torch.full((len(x),), torch.inf, device=x.device)
    best_scale = torch.zeros(len(x), dtype=torch.uint8, device=x.device)
    best_codes = torch.zeros(x.shape, dtype=torch.uint8, device=x.device)
    for multiple in MULTIPLES:
        scale = _nearest(largest * multiple / each, steps)
        codes, error = _error(x, weights, table, steps[scale.int()] * each)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)
        best_codes = torch.where(better[:, None], codes, best_codes)
    return Packed(
        pack(best_codes, form.bits), table, best_scale, steps, factors, weight.shape,
        form.bits, form.group, SCALE_GROUP,
    )  # fmt: skip


def _signed_largest(x: Tensor) -> Tensor:
    """Return of each row the number of largest magnitude."""
    return x.gather(1, x.abs().argmax(1, keepdim=True))[:, 0]


def _factors(largest: Tensor) -> Tensor:
    """Return for each run of scales the largest that may be asked for; 1 where all are zero."""
    padded = torch.nn.functional.pad(largest.abs(), (0, -len(largest) % SCALE_GROUP))
    top = padded.view(-1, SCALE_GROUP).amax(1) * ROOM
    return torch.where(top == 0, torch.ones_like(top), top)


def _nearest(values: Tensor, levels: Tensor) -> Tensor:
    """Return the place of the nearest of ascending levels."""
    middles = (levels[1:] + levels[:-1]) / 2
    return torch.bucketize(values, middles).to(torch.uint8)


def _error(x: Tensor, weights: Tensor, table: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes [N, G] and the weighted square error of each group [N]."""
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)[:, None]
    codes = _nearest(x / safe, table)
    rest = x - table[codes.int()] * scale[:, None]
    return codes, (rest.square() * weights).sum(1)
