"""Divergences a tile of rows at a time, the gradient of the hidden rows in the same pass."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strop.ops.linear_log_prob.tiled import slices, tile_rows, times_head

TILE_BYTES = 16_000_000
"""Of one model's logits, where the vocabulary is not large; see `tiled.tile_rows`."""
BUFFERS = 4
"""As large as a tile that live at once; a tile of a large vocabulary is the smaller for it."""
SLICE_BYTES = 4_000_000
"""Of a head in a narrow dtype, what is widened at once."""


@dataclass(frozen=True, slots=True)
class Logits:
    """How products of a head become logits: softcap * tanh(scale * (product + bias) / softcap)."""

    bias: Tensor | None = None
    """[V]"""
    scale: float = 1.0
    softcap: float | None = None

    def of(self, products: Tensor) -> tuple[Tensor, Tensor | float]:
        """Return the logits of products [R, V], and their derivative by the products."""
        z = products if self.bias is None else products + self.bias
        if self.scale != 1.0:
            z = z * self.scale
        if self.softcap is None:
            return z, self.scale
        bounded = torch.tanh(z / self.softcap)
        return bounded * self.softcap, (1 - bounded.square()) * self.scale


def divergence(student: Tensor, teacher: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Return the divergence [R] of log-probabilities [R, C], and its derivative by the student's.

    The formula is that of `linear_divergence`.
    """
    if beta == 0.0:
        likely = teacher.exp()
        return (likely * (teacher - student)).sum(-1), -likely
    p = student.exp()
    if beta == 1.0:
        apart = student - teacher
        return (p * apart).sum(-1), p * (apart + 1)
    mixed = torch.logaddexp(student + math.log1p(-beta), teacher + math.log(beta))
    apart = p * (student - mixed)
    of_teacher = (teacher.exp() * (teacher - mixed)).sum(-1)
    return beta * of_teacher + (1 - beta) * apart.sum(-1), (1 - beta) * apart


def run(
    hidden: Tensor,
    weight: Tensor,
    logits: Logits,
    beta: float,
    *,
    heads: tuple[Tensor, Tensor, Logits] | None = None,
    stored: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the divergence of each row [M]; see `linear_divergence` and `top_k_divergence`.

    Args:
        hidden: [M, D] of the student.
        weight: [V, D] its head.
        logits: bias, scale and soft-cap of its logits.
        beta: from 0 to 1.
        heads: hidden rows, head and logits of the teacher.
        stored: the teacher's log-probabilities and tokens in their place.
    """
    with torch.autocast(hidden.device.type, enabled=False):  # the dtypes of the tensors decide
        keep = torch.is_grad_enabled() and hidden.requires_grad
        result: Tensor = _Divergence.apply(hidden, weight, (logits, beta, heads, stored, keep))
    return result


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, rest: tuple[Any, ...]) -> Tensor:
        logits, beta, heads, stored, keep = rest
        dtype = torch.promote_types(hidden.dtype, weight.dtype)
        wide = torch.promote_types(dtype, torch.float32)
        values = hidden.new_empty(len(hidden), dtype=wide)
        slope = torch.empty_like(hidden) if keep else None
        for rows in _tiles(len(hidden), len(weight), weight.shape[1]):
            z, derivative = logits.of(_products(hidden[rows], weight, wide))
            student = z.log_softmax(-1)
            if heads is not None:
                teacher_z, _ = heads[2].of(_products(heads[0][rows], heads[1], wide))
                values[rows], g = divergence(student, teacher_z.log_softmax(-1), beta)
                dz = g.sub_(student.exp().mul_(g.sum(-1, keepdim=True)))
            else:
                values[rows], dz = _grouped(student, stored[0][rows], stored[1][rows], beta)
            if slope is not None:
                slope[rows] = times_head(dz.mul_(derivative), weight, hidden.dtype, SLICE_BYTES)
        if slope is not None:
            ctx.save_for_backward(slope)
        return values

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (slope * upstream[0][:, None]).to(slope.dtype), None, None


def _grouped(
    student: Tensor, log_probs: Tensor, tokens: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    """Return the divergence [R] with all but some tokens as one, and its gradient by the logits."""
    top = student.gather(1, tokens)
    others = student.scatter(1, tokens, -torch.inf).logsumexp(-1, keepdim=True)
    value, g = divergence(torch.cat((top, others), 1), log_probs.to(student.dtype), beta)
    total = g.sum(-1, keepdim=True)
    dz = (student - others).exp_().mul_(g[:, -1:]).sub_(student.exp().mul_(total))
    return value, dz.scatter_(1, tokens, g[:, :-1] - top.exp() * total)


def _tiles(M: int, V: int, D: int) -> Iterator[slice]:
    most = tile_rows(V, D // BUFFERS, TILE_BYTES)
    size = math.ceil(M / math.ceil(M / most)) if M else 1
    for start in range(0, M, size):
        yield slice(start, min(start + size, M))


def _products(hidden: Tensor, weight: Tensor, wide: torch.dtype) -> Tensor:
    """Return hidden [R, D] times the head [V, D], in `wide`."""
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    products = hidden.new_empty(len(hidden), len(weight), dtype=dtype)
    hidden = hidden.to(dtype)
    for tokens, dense in slices(weight, dtype, SLICE_BYTES):
        torch.mm(hidden, dense.T, out=products[:, tokens])
    return products.to(wide)
