"""One weight into few bits: signed scales, chosen where the weighted error is least."""

import torch
from torch import Tensor

from strop.core.errors import DataError, UnsupportedError
from strop.ops.dequantize.packed import Packed, pack
from strop.ops.round_columns import round_columns
from strop.quantization.formats import SCALE_GROUP, Format, scale_table

MULTIPLES = tuple(0.7 + 0.025 * i for i in range(17))
"""Of the largest weight of a group: the scales that are tried."""
ROOM = max(MULTIPLES)


def quantize(
    weight: Tensor, form: Format, *, energy: Tensor | None = None, feedback: Tensor | None = None
) -> Packed:
    """Store a weight in few bits.

        minimise over the scales   sum_ij energy[j] * (weight[i, j] - stored[i, j])**2

    Each weight takes the nearest level; each group the best of a few multiples of its largest
    weight, signed, as the 8 bits of a scale can say them. With `feedback` (GPTQ,
    arXiv:2210.17323) the error of each column moves the columns after it to where they make
    good for it, and `energy` is what is left of each column's then: 1 / diagonal**2.

    Args:
        weight: [E, D] floating point, finite.
        form: how it is stored; D is a multiple of its group.
        energy: [D] mean square of each input, which weighs the errors; None weighs all the same.
        feedback: [D, D] of `strop.quantization.gram.feedback`; None rounds each weight by itself.

    Returns:
        Codes, scales and tables, made by the device of `weight`.

    Raises:
        DataError: a weight is NaN or infinite.
        UnsupportedError: D is no multiple of the group.
    """
    E, D = weight.shape
    _check(weight, form)
    columns = weight.float().T.contiguous()  # [D, E]
    if feedback is not None:
        energy = feedback.diagonal().float().pow(-2)
    elif energy is None:
        energy = torch.ones(D)
    energy = energy.float().to(weight.device)
    table, steps = form.table().to(weight.device), scale_table().to(weight.device)
    multiples = torch.tensor(MULTIPLES, device=weight.device)
    runs, factors = _factors(columns, form, table)
    codes = torch.empty(D, E, dtype=torch.uint8, device=weight.device)
    scales = torch.empty(E, D // form.group, dtype=torch.uint8, device=weight.device)
    for start in range(0, D, form.group):
        end, g = start + form.group, start // form.group
        inverse = None if feedback is None else feedback[start:end, start:end]
        rounded = round_columns(
            columns[start:end], energy[start:end], inverse, factors[:, g], table, steps, multiples
        )
        codes[start:end], scales[:, g] = rounded.codes, rounded.scales
        if feedback is not None:
            columns[end:].addmm_(feedback[start:end, end:].T, rounded.errors, alpha=-1)
    return Packed(
        codes=pack(codes.T.contiguous(), form.bits),
        table=table,
        scale_codes=scales.flatten(),
        scale_table=steps,
        factors=runs,
        shape=weight.shape,
        bits=form.bits,
        group=form.group,
        scale_group=SCALE_GROUP,
    )


def _factors(columns: Tensor, form: Format, table: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest scale that may be asked for: of each run of scales, and [E, D / G]."""
    D, E = columns.shape
    top = columns.view(D // form.group, form.group, E).abs().amax(1).T.flatten()  # row by row
    padded = torch.nn.functional.pad(top, (0, -len(top) % SCALE_GROUP))
    runs = padded.view(-1, SCALE_GROUP).amax(1) * (ROOM * table.abs().max())
    runs = torch.where(runs == 0, torch.ones_like(runs), runs)
    return runs, runs.repeat_interleave(SCALE_GROUP)[: len(top)].view(E, -1)


def _check(weight: Tensor, form: Format) -> None:
    if weight.shape[1] % form.group:
        raise UnsupportedError(
            f"a weight {list(weight.shape)} cannot be stored as {form.name}: its rows are no whole "
            f"number of groups of {form.group}; choose a format with smaller groups or leave it "
            "in 16 bits"
        )
    if not weight.isfinite().all():
        place = (~weight.isfinite()).nonzero()[0].tolist()
        raise DataError(
            f"the weight is {weight[tuple(place)].item()} at {place}; it must be finite"
        )
