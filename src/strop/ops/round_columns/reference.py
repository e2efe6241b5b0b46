"""Columns rounded one after another in plain PyTorch: the definition."""

import torch
from torch import Tensor

from strop.ops.round_columns.rounded import Rounded


def round_columns(
    group: Tensor,
    importance: Tensor,
    feedback: Tensor | None,
    factor: Tensor,
    table: Tensor,
    steps: Tensor,
    multiples: Tensor,
) -> Rounded:
    """See `strop.ops.round_columns`."""
    scales = _best_scales(group, importance, factor, table, steps, multiples)
    scale = steps[scales.int()] * factor
    errors = torch.zeros_like(group)
    if feedback is None:
        return Rounded(_nearest(group * _inverse(scale), table), scales, errors)
    codes = torch.empty(group.shape, dtype=torch.uint8, device=group.device)
    rest = group.clone()
    for g in range(len(group)):
        codes[g] = _nearest(rest[g] * _inverse(scale), table)
        errors[g] = (rest[g] - table[codes[g].int()] * scale) / feedback[g, g]
        rest[g + 1 :].addr_(feedback[g, g + 1 :], errors[g], alpha=-1)
    return Rounded(codes, scales, errors)


def _best_scales(
    group: Tensor,
    importance: Tensor,
    factor: Tensor,
    table: Tensor,
    steps: Tensor,
    multiples: Tensor,
) -> Tensor:
    largest = group.gather(0, group.abs().argmax(0, keepdim=True))[0]
    largest = largest * table[table.abs().argmax()]  # its sign becomes the scale's
    best_error = torch.full_like(largest, torch.inf)
    best = torch.zeros(len(largest), dtype=torch.uint8, device=group.device)
    for multiple in multiples:
        code = _nearest(largest * multiple / factor, steps)
        scale = steps[code.int()] * factor
        rounded = table[_nearest(group * _inverse(scale), table).int()] * scale
        error = importance @ (rounded - group).square()
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best = torch.where(better, code, best)
    return best


def _inverse(scale: Tensor) -> Tensor:
    """Return 1 / scale, and 1 for the scale 0 of a group of zeros."""
    return 1 / torch.where(scale == 0, torch.ones_like(scale), scale)


def _nearest(values: Tensor, levels: Tensor) -> Tensor:
    """Return the place of the nearest of ascending levels."""
    return torch.bucketize(values, (levels[1:] + levels[:-1]) / 2).to(torch.uint8)
