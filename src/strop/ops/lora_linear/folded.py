"""Adapters folded into the dense weight, in float32 and wider: one product forward, one backward."""

from collections.abc import Sequence

import torch
from torch import Tensor

from strop.ops.lora_linear.parts import Gradients, LinearParts, Workspace, write_dense


def folded(parts: Sequence[LinearParts], x: Tensor, workspace: Workspace) -> Tensor:
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


def folded_gradients(
    slices: Sequence[Tensor], x: Tensor, parts: Sequence[LinearParts], workspace: Workspace
) -> Gradients:
    """Return the gradients of every layer's `trained`; see `eager.adapter_gradients`."""
    down = [p.a.to(x.dtype) for p in parts if p.a is not None and p.magnitude is None]
    narrow = torch.mm(x, torch.cat(down).T) if down else x.new_empty(0, 0)  # [N, sum of R]
    lifted = torch.empty_like(narrow)
    at = 0
    gradients: Gradients = []
    places: list[tuple[int, LinearParts, slice]] = []
    for dy_part, part in zip(slices, parts, strict=True):
        if part.a is None or part.b is None:
            gradients += weight_gradients(dy_part, x, part)
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


def weight_gradients(dy: Tensor, x: Tensor, part: LinearParts) -> Gradients:
    """Return the gradients of a weight [E, D] and a bias [E], as far as they are trained.

    dW = dy^T x        dbias = sum over tokens of dy
    """
    return [
        (torch.mm(dy.T, x) if t is part.weight else dy.sum(0)).to(t.dtype)
        for t in part.trained_weights
    ]


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
