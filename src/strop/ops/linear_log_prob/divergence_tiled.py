"""Divergences a tile of rows at a time, the gradient of the hidden rows in the same pass."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strop.core import native
from strop.ops.linear_log_prob.tiled import slices, tile_rows, times_head

SOURCE = Path(__file__).with_name("divergence.cpp")
TILE_BYTES = 64_000_000
"""Of all that is as large as the logits of a tile, in float32; see `tiled.tile_rows`."""
BUFFERS, NATIVE_BUFFERS = 4, 2
"""As large as the logits of a tile that live at once; in C++ those of student and teacher alone."""
SLICE_BYTES = 4_000_000
"""Of a head in a narrow dtype, what is widened at once."""


@dataclass(frozen=True, slots=True)
class Logits:
    """How products of a head become logits: softcap * tanh(scale * (product + bias) / softcap)."""

    bias: Tensor | None = None
    """[V]"""
    scale: float = 1.0
    softcap: float | None = None

    @property
    def plain(self) -> bool:
        """Whether products are logits."""
        return self.bias is None and self.scale == 1.0 and self.softcap is None

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
        run = _whole_tile(hidden, weight, logits, heads)
        for rows in _tiles(len(hidden), weight, BUFFERS if run is None else NATIVE_BUFFERS):
            products = _products(hidden[rows], weight)
            if run is not None:
                of_teacher, threads = _products(heads[0][rows], heads[1]), torch.get_num_threads()
                run(products, of_teacher, values[rows], *products.shape, beta, keep, threads)
                dz = products
            else:
                z, derivative = logits.of(products.to(wide))
                student = z.log_softmax(-1)
                if heads is None:
                    values[rows], dz = _grouped(student, stored[0][rows], stored[1][rows], beta)
                else:
                    z, _ = heads[2].of(_products(heads[0][rows], heads[1]).to(wide))
                    values[rows], g = divergence(student, z.log_softmax(-1), beta)
                    dz = g.sub_(student.exp().mul_(g.sum(-1, keepdim=True)))
                dz *= derivative
            if slope is not None:
                slope[rows] = times_head(dz, weight, hidden.dtype, SLICE_BYTES)
        if slope is not None:
            ctx.save_for_backward(slope)
        return values

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (slope * upstream[0][:, None]).to(slope.dtype), None, None


def _whole_tile(
    hidden: Tensor, weight: Tensor, logits: Logits, heads: tuple[Tensor, Tensor, Logits] | None
) -> Callable[..., None] | None:
    """Return the function in C++ of a tile of products, or None: it takes products that are logits."""
    if heads is None or not (logits.plain and heads[2].plain):
        return None
    of_both = (
        hidden.new_empty(0, dtype=torch.promote_types(one.dtype, other.dtype))
        for one, other in ((hidden, weight), heads[:2])
    )
    return native.function_for(SOURCE, "divergence", "pppqqfii", *of_both)


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


def _tiles(M: int, weight: Tensor, buffers: int) -> Iterator[slice]:
    V, D = weight.shape
    most = tile_rows(V, D // buffers, TILE_BYTES // buffers)
    size = math.ceil(M / math.ceil(M / most)) if M else 1
    for start in range(0, M, size):
        yield slice(start, min(start + size, M))


def _products(hidden: Tensor, weight: Tensor) -> Tensor:
    """Return hidden [R, D] times the head [V, D], in the wider dtype of both."""
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    products = hidden.new_empty(len(hidden), len(weight), dtype=dtype)
    hidden = hidden.to(dtype)
    for tokens, dense in slices(weight, dtype, SLICE_BYTES):
        torch.mm(hidden, dense.T, out=products[:, tokens])
    return products
