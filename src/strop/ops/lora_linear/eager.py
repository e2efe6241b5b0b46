"""Linear layers that share an input as one product, with their adapters.

In float32 and wider an adapter is folded into the dense weight, so that forward and the gradient of
the input are one product each. In 16 bits it stays beside the weight: folding would round it away.
The gradients of A and B never need the gradient of W.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from strop.ops.add_low_rank import add_low_rank_
from strop.ops.lora_linear.parts import LinearParts, Workspace, write_dense
from strop.ops.mixed_product import mixed_product

Masks = tuple[Tensor | None, ...]
Gradients = list[Tensor | None]


def draw_masks(x: Tensor, parts: Sequence[LinearParts]) -> Masks:
    """Return for each layer which inputs its adapter sees [N, D] bool, or None if it sees all."""
    return tuple(
        None if part.dropout == 0 or part.a is None else torch.rand_like(x) >= part.dropout
        for part in parts
    )


def forward(
    x: Tensor,
    parts: Sequence[LinearParts],
    masks: Masks,
    workspace: Workspace,
    *,
    add_to: Tensor | None = None,
) -> Tensor:
    """Return the layers' outputs side by side [N, sum of E], without autograd.

    Args:
        x: [N, D].
        parts: layers with the same D.
        masks: from `draw_masks`.
        workspace: buffers for dense weights.
        add_to: [N, E] added to the result, of a single layer.
    """
    if folds(x, masks):
        weight = _folded(parts, x, workspace)
        out = torch.mm(x, weight.T) if add_to is None else torch.addmm(add_to, x, weight.T)
        return _add_bias(out, parts)
    widths = [part.weight.shape[0] for part in parts]
    out = x.new_empty(len(x), sum(widths))
    scaled = any(part.magnitude is not None for part in parts)
    start = None if scaled else add_to
    for part, mask, output in zip(parts, masks, out.split(widths, 1), strict=True):
        _separate(x, part, mask, workspace, output, start)
    _add_bias(out, parts)
    return out if start is add_to or add_to is None else out.add_(add_to)


def input_gradient(
    dy: Tensor, parts: Sequence[LinearParts], masks: Masks, workspace: Workspace
) -> Tensor:
    """Return the gradient of the input [N, D] given that of the outputs side by side [N, sum of E]."""
    D = parts[0].weight.shape[1]
    if folds(dy, masks):
        return torch.mm(dy, _folded(parts, dy.new_empty(0, D), workspace))
    dx = dy.new_empty(len(dy), D)
    for i, (dy_part, part, mask) in enumerate(zip(_outputs(dy, parts), parts, masks, strict=True)):
        weight = _dense(part, dx, workspace)
        factor = _row_factor(part, weight)
        upstream = dy_part if factor is None else dy_part * factor.T.to(dy_part.dtype)
        if i == 0:
            torch.mm(upstream, weight, out=dx)
        else:
            dx.addmm_(upstream, weight)
        if part.a is not None and part.b is not None:
            lifted = mixed_product(_no_wider(upstream, part.b), part.b)
            if mask is None:
                add_low_rank_(dx, lifted, part.a, scale=part.scale)
            else:
                seen = torch.mm(lifted, part.a).mul_(part.scale / (1 - part.dropout))
                dx += seen.mul_(mask).to(dx.dtype)
    return dx


def adapter_gradients(
    dy: Tensor, x: Tensor, parts: Sequence[LinearParts], masks: Masks, workspace: Workspace
) -> Gradients:
    """Return the gradients of every layer's `trained`, in order.

    dA = scale * (dy B)^T x        dB = scale * dy^T (x A^T)
    """
    slices = _outputs(dy, parts)
    if folds(x, masks):
        return _folded_gradients(slices, x, parts, workspace)
    gradients: Gradients = []
    for dy_part, part, mask in zip(slices, parts, masks, strict=True):
        gradients += _separate_gradients(dy_part, x, part, mask, workspace)
    return gradients


def _outputs(dy: Tensor, parts: Sequence[LinearParts]) -> tuple[Tensor, ...]:
    return dy.split([part.weight.shape[0] for part in parts], 1)


def folds(x: Tensor, masks: Masks) -> bool:
    """Return whether adapters are added to the weight before the product."""
    return x.dtype in (torch.float32, torch.float64) and all(mask is None for mask in masks)


def _folded(parts: Sequence[LinearParts], x: Tensor, workspace: Workspace) -> Tensor:
    """Return [sum of E, D]: W + scale B A of each layer, scaled by row for DoRA."""
    first = parts[0]
    plain = first.weight if len(parts) == 1 and first.a is None else None
    if isinstance(plain, Tensor) and plain.dtype == x.dtype:
        return plain
    heights = [part.weight.shape[0] for part in parts]
    weight = workspace.take("weight", (sum(heights), x.shape[1]), x)
    for part, rows in zip(parts, weight.split(heights), strict=True):
        _fold_one(part, rows)
        if part.magnitude is not None:
            rows.mul_((part.magnitude / torch.linalg.vector_norm(rows, dim=1))[:, None])
    return weight


def _fold_one(part: LinearParts, out: Tensor) -> None:
    if part.a is None or part.b is None:
        write_dense(part.weight, out)
    elif isinstance(part.weight, Tensor) and part.weight.dtype == out.dtype:
        b, a = part.b.to(out.dtype), part.a.to(out.dtype)
        torch.addmm(part.weight, b, a, alpha=part.scale, out=out)
    else:
        write_dense(part.weight, out)
        out.addmm_(part.b.to(out.dtype), part.a.to(out.dtype), alpha=part.scale)


def _folded_gradients(
    slices: Sequence[Tensor], x: Tensor, parts: Sequence[LinearParts], workspace: Workspace
) -> Gradients:
    down = [p.a.to(x.dtype) for p in parts if p.a is not None and p.magnitude is None]
    narrow = torch.mm(x, torch.cat(down).T) if down else x.new_empty(0, 0)  # [N, sum of R]
    lifted = torch.empty_like(narrow)
    at = 0
    gradients: Gradients = []
    places: list[tuple[int, LinearParts, slice]] = []
    for dy_part, part in zip(slices, parts, strict=True):
        if part.a is None or part.b is None:
            continue
        if part.magnitude is not None:
            gradients += _dora_gradients(dy_part, x, part, workspace)
            continue
        R = part.a.shape[0]
        ranks = slice(at, at + R)
        lifted[:, ranks] = torch.mm(dy_part, part.b.to(x.dtype))
        db = torch.mm(dy_part.T, narrow[:, ranks]).mul_(part.scale).to(part.b.dtype)
        places.append((len(gradients), part, ranks))
        gradients += [None, db]
        at += R
    if places:
        da = torch.mm(lifted.T, x)  # [sum of R, D]
        for place, part, ranks in places:
            assert part.a is not None
            gradients[place] = da[ranks].mul_(part.scale).to(part.a.dtype)
    return gradients


def _dora_gradients(dy: Tensor, x: Tensor, part: LinearParts, workspace: Workspace) -> Gradients:
    """Return the gradients of A, B and the magnitude; the row norms are constants (DoRA, 4.3)."""
    assert part.a is not None
    assert part.b is not None
    assert part.magnitude is not None
    rows = workspace.take("dora", tuple(part.weight.shape), x)
    _fold_one(part, rows)
    norm = torch.linalg.vector_norm(rows, dim=1)
    dweight = torch.mm(dy.T, x)  # [E, D]
    dmagnitude = (dweight * rows).sum(1) / norm
    dweight.mul_((part.magnitude / norm)[:, None])
    da = torch.mm(part.b.to(x.dtype).T, dweight).mul_(part.scale)
    db = torch.mm(dweight, part.a.to(x.dtype).T).mul_(part.scale)
    pairs = zip((da, db, dmagnitude), (part.a, part.b, part.magnitude), strict=True)
    return [gradient.to(tensor.dtype) for gradient, tensor in pairs]


def _add_bias(out: Tensor, parts: Sequence[LinearParts]) -> Tensor:
    at = 0
    for part in parts:
        if part.bias is not None:
            out[:, at : at + part.weight.shape[0]] += part.bias.to(out.dtype)
        at += part.weight.shape[0]
    return out


def _dense(part: LinearParts, x: Tensor, workspace: Workspace) -> Tensor:
    if isinstance(part.weight, Tensor) and part.weight.dtype == x.dtype:
        return part.weight
    return write_dense(part.weight, workspace.take("weight", tuple(part.weight.shape), x))


def _seen(x: Tensor, part: LinearParts, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return what the adapter sees of `x`, in the adapter's dtype."""
    wide = x.to(dtype)
    return wide if mask is None else wide * mask / (1 - part.dropout)


def _row_factor(part: LinearParts, weight: Tensor) -> Tensor | None:
    """Return DoRA's factor of each output [E, 1], or None."""
    if part.magnitude is None or part.a is None or part.b is None:
        return None
    rows = torch.addmm(weight.to(part.a.dtype), part.b, part.a, alpha=part.scale)
    return (part.magnitude / torch.linalg.vector_norm(rows, dim=1))[:, None]


def _separate(
    x: Tensor,
    part: LinearParts,
    mask: Tensor | None,
    workspace: Workspace,
    out: Tensor,
    start: Tensor | None,
) -> None:
    """Write the layer's output, added to `start` if given, to `out` [N, E]."""
    weight = _dense(part, x, workspace)
    if start is None:
        torch.mm(x, weight.T, out=out)
    else:
        torch.addmm(start, x, weight.T, out=out)
    if part.a is None or part.b is None:
        return
    seen = x if mask is None else _seen(x, part, mask, part.a.dtype)
    narrow = mixed_product(_no_wider(seen, part.a), part.a.T)  # [N, R]
    add_low_rank_(out, narrow, part.b.T, scale=part.scale)
    if (factor := _row_factor(part, weight)) is not None:
        out.mul_(factor.T.to(out.dtype))


def _separate_gradients(
    dy: Tensor, x: Tensor, part: LinearParts, mask: Tensor | None, workspace: Workspace
) -> Gradients:
    if part.a is None or part.b is None:
        return []
    seen = x if mask is None else _seen(x, part, mask, part.a.dtype)
    narrow = mixed_product(_no_wider(seen, part.a), part.a.T)  # [N, R]
    above, extra = dy, Gradients()
    if part.magnitude is not None:
        weight = _dense(part, x, workspace)
        factor = _row_factor(part, weight)
        assert factor is not None
        wide = dy.to(part.a.dtype)
        plain = torch.mm(x, weight.T).to(wide.dtype) + torch.mm(narrow, part.b.T) * part.scale
        extra = [(wide * plain).sum(0) * factor[:, 0] / part.magnitude]
        above = wide * factor.T
    lifted = mixed_product(_no_wider(above, part.b), part.b)  # [N, R]
    da = mixed_product(lifted.T, _no_wider(seen, lifted), scale=part.scale)
    db = mixed_product(_no_wider(above, narrow).T, narrow, scale=part.scale)
    return [da, db, *extra]


def _no_wider(t: Tensor, other: Tensor) -> Tensor:
    """Return `t`, narrowed to the dtype of `other` if that is narrower."""
    return t if torch.promote_types(t.dtype, other.dtype) == other.dtype else t.to(other.dtype)


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, part: LinearParts, *trained: Tensor) -> Tensor:
        ctx.part, ctx.masks, ctx.workspace = part, draw_masks(x, (part,)), Workspace()
        ctx.save_for_backward(x)
        return forward(x, (part,), ctx.masks, ctx.workspace)

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        call = (ctx.part,), ctx.masks, ctx.workspace
        dx = input_gradient(dy[0], *call) if ctx.needs_input_grad[0] else None
        needed = ctx.needs_input_grad[2:]
        if not any(needed):
            return dx, None, *(None for _ in needed)
        pairs = zip(adapter_gradients(dy[0], x, *call), needed, strict=True)
        return dx, None, *(gradient if needs else None for gradient, needs in pairs)


def lora_linear(x: Tensor, part: LinearParts) -> Tensor:
    """See `strop.ops.lora_linear`."""
    out: Tensor = _LoraLinear.apply(x, part, *part.trained)
    return out
