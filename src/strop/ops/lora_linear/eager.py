"""Linear layers that share an input as one product, with their adapters.

In float32 and wider an adapter is folded into the dense weight, so that forward and the gradient of
the input are one product each. In 16 bits it stays beside the weight: folding would round it away.
There its part is written first and the dense product added to it, which a library does in float32
before it rounds: a small part added to a result that is rounded already is lost for the most part.
The gradients of A and B never need the gradient of W, which is made only where W itself is trained.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from strop.ops.add_low_rank import add_low_rank_
from strop.ops.lora_linear.folded import folded, folded_gradients, weight_gradients
from strop.ops.lora_linear.parts import Gradients, LinearParts, Workspace, write_dense
from strop.ops.mixed_product import mixed_product

Masks = tuple[Tensor | None, ...]
STACKED_FROM = 256
"""Tokens; see `_stacked`."""


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
        whole = folded(parts, x, workspace)
        out = torch.mm(x, whole.T) if add_to is None else torch.addmm(add_to, x, whole.T)
        return _add_bias(out, parts)
    widths = [part.weight.shape[0] for part in parts]
    out = x.new_empty(len(x), sum(widths))
    outputs = out.split(widths, 1)
    joined = _joined(parts, masks)
    narrow = _narrow(x, [parts[i] for i in joined])
    adapted = [part.a is not None and part.b is not None for part in parts]
    for i, (part, output) in enumerate(zip(parts, outputs, strict=True)):
        columns = narrow[:, joined[i]] if i in joined else None
        _write_adapter(x, part, masks[i], output, columns)
    stacked = _stacked(parts, x, workspace)
    start = None if any(adapted) else add_to
    if stacked is not None:
        for output, has_adapter in zip(outputs, adapted, strict=True):
            if any(adapted) and not has_adapter:
                output.zero_()
        torch.addmm(out, x, stacked.T, beta=int(any(adapted)), out=out)
    else:
        for part, output, has_adapter in zip(parts, outputs, adapted, strict=True):
            weight = _dense(part, x, workspace)
            beside = start if start is not None else output
            beta = int(start is not None or has_adapter)
            torch.addmm(beside, x, weight.T, beta=beta, out=output)
            if (factor := _row_factor(part, weight)) is not None:
                output.mul_(factor.T.to(output.dtype))
    _add_bias(out, parts)
    return out if add_to is None or start is not None else out.add_(add_to)


def lift(dy: Tensor, parts: Sequence[LinearParts], masks: Masks) -> Tensor | None:
    """Return scale * dy B [N, sum of R] of the adapters that only add, which both gradients need.

    None where adapters are folded, or there are none of that kind.
    """
    joined = _joined(parts, masks)
    if folds(dy, masks) or not joined:
        return None
    slices = _outputs(dy, parts)
    lifted = []
    for i in joined:
        part, b = parts[i], parts[i].b
        assert b is not None
        lifted.append(mixed_product(_no_wider(slices[i], b), b, scale=part.scale))
    return lifted[0] if len(lifted) == 1 else torch.cat(lifted, 1)


def input_gradient(
    dy: Tensor,
    parts: Sequence[LinearParts],
    masks: Masks,
    workspace: Workspace,
    lifted: Tensor | None = None,
) -> Tensor:
    """Return the gradient of the input [N, D] given that of the outputs side by side [N, sum of E].

    Args:
        dy: [N, sum of E].
        parts: as given to `forward`, likewise `masks`, `workspace`.
        masks: see `parts`.
        workspace: see `parts`.
        lifted: from `lift`, if it has been computed.
    """
    D = parts[0].weight.shape[1]
    if folds(dy, masks):
        return torch.mm(dy, folded(parts, dy.new_empty(0, D), workspace))
    dx = dy.new_empty(len(dy), D)
    joined = _joined(parts, masks)
    if joined:
        lifted = lift(dy, parts, masks) if lifted is None else lifted
        assert lifted is not None
        add_low_rank_(dx, lifted, _down([parts[i] for i in joined]), overwrite=True)
    stacked = _stacked(parts, dy, workspace)
    if stacked is not None:
        torch.addmm(dx, dy, stacked, beta=int(bool(joined)), out=dx)
    for i, (upstream, part, mask) in enumerate(zip(_outputs(dy, parts), parts, masks, strict=True)):
        if stacked is None:
            weight = _dense(part, dx, workspace)
            if (factor := _row_factor(part, weight)) is not None:
                upstream = upstream * factor.T.to(upstream.dtype)
            torch.addmm(dx, upstream, weight, beta=int(i > 0 or bool(joined)), out=dx)
        if part.a is not None and part.b is not None and i not in joined:
            above = mixed_product(_no_wider(upstream, part.b), part.b)
            if mask is None:
                add_low_rank_(dx, above, part.a, scale=part.scale)
            else:
                seen = torch.mm(above, part.a).mul_(part.scale / (1 - part.dropout))
                dx += seen.mul_(mask).to(dx.dtype)
    return dx


def adapter_gradients(
    dy: Tensor,
    x: Tensor,
    parts: Sequence[LinearParts],
    masks: Masks,
    workspace: Workspace,
    lifted: Tensor | None = None,
) -> Gradients:
    """Return the gradients of every layer's `trained`, in order; `lifted` as in `input_gradient`.

    dA = scale * (dy B)^T x        dB = scale * dy^T (x A^T)
    """
    slices = _outputs(dy, parts)
    if folds(x, masks):
        return folded_gradients(slices, x, parts, workspace)
    joined = _joined(parts, masks)
    lifted = lift(dy, parts, masks) if lifted is None else lifted
    narrow, da = None, None
    if lifted is not None:
        narrow = _narrow(x, [parts[i] for i in joined])
        da = mixed_product(lifted.T, _no_wider(x, lifted))  # [sum of R, D]
    gradients: Gradients = []
    for i, (dy_part, part, mask) in enumerate(zip(slices, parts, masks, strict=True)):
        if i not in joined:
            gradients += _separate_gradients(dy_part, x, part, mask, workspace)
            continue
        assert narrow is not None
        assert da is not None
        columns = narrow[:, joined[i]]
        db = mixed_product(_no_wider(dy_part, columns).T, columns, scale=part.scale)
        gradients += [da[joined[i]], db]
    return gradients


def _joined(parts: Sequence[LinearParts], masks: Masks) -> dict[int, slice]:
    """Return the places of adapters that only add and see all of the input, and of each its ranks.

    What they take in and what they give up is computed for all at once.
    """
    at, joined = 0, {}
    for i, (part, mask) in enumerate(zip(parts, masks, strict=True)):
        if part.a is not None and part.magnitude is None and mask is None:
            joined[i] = slice(at, at := at + part.a.shape[0])
    return joined


def _down(parts: Sequence[LinearParts]) -> Tensor:
    """Return A of each layer below one another [sum of R, D]."""
    rows = [part.a for part in parts if part.a is not None]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _narrow(x: Tensor, parts: Sequence[LinearParts]) -> Tensor:
    """Return x A^T [N, sum of R]."""
    if not parts:
        return x.new_empty(len(x), 0)
    down = _down(parts)
    return mixed_product(_no_wider(x, down), down.T)


def _outputs(dy: Tensor, parts: Sequence[LinearParts]) -> tuple[Tensor, ...]:
    return dy.split([part.weight.shape[0] for part in parts], 1)


def folds(x: Tensor, masks: Masks) -> bool:
    """Return whether adapters are added to the weight before the product."""
    return x.dtype in (torch.float32, torch.float64) and all(mask is None for mask in masks)


def _add_bias(out: Tensor, parts: Sequence[LinearParts]) -> Tensor:
    at = 0
    for part in parts:
        if part.bias is not None:
            out[:, at : at + part.weight.shape[0]] += part.bias.to(out.dtype)
        at += part.weight.shape[0]
    return out


def _stacked(parts: Sequence[LinearParts], x: Tensor, workspace: Workspace) -> Tensor | None:
    """Return the dense weights below one another [sum of E, D] where one product of all is faster.

    oneDNN writes rows with gaps, and adds to what it wrote, a fifth to a quarter slower than it
    writes neighbouring rows at once; for many tokens copies of the weights cost less.
    """
    if len(parts) == 1 or len(x) < STACKED_FROM or x.device.type != "cpu":
        return None
    if any(part.magnitude is not None for part in parts):
        return None
    heights = [part.weight.shape[0] for part in parts]
    stacked = workspace.take("weight", (sum(heights), parts[0].weight.shape[1]), x)
    for part, rows in zip(parts, stacked.split(heights), strict=True):
        write_dense(part.weight, rows)
    return stacked


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


def _write_adapter(
    x: Tensor, part: LinearParts, mask: Tensor | None, out: Tensor, narrow: Tensor | None
) -> None:
    """Write the adapter's part into `out` [N, E], if there is one; `narrow` is x A^T if known."""
    if part.a is None or part.b is None:
        return
    if narrow is None:
        seen = x if mask is None else _seen(x, part, mask, part.a.dtype)
        narrow = mixed_product(_no_wider(seen, part.a), part.a.T)  # [N, R]
    add_low_rank_(out, narrow, part.b.T, scale=part.scale, overwrite=True)


def _separate_gradients(
    dy: Tensor, x: Tensor, part: LinearParts, mask: Tensor | None, workspace: Workspace
) -> Gradients:
    if part.a is None or part.b is None:
        return weight_gradients(dy, x, part)
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
