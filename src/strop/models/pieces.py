"""Log-probabilities of a batch in pieces, with the gradient of the whole and the memory of one piece.

Where the loss is linear in the log-probabilities, each piece runs backward as soon as it ran forward
and the trainer's own backward only scales what was collected. Otherwise a piece runs forward without
a graph, and again with one when the gradient of its log-probabilities arrives (gradient cache,
Gao et al. 2021, arXiv:2101.06983).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strop.models.kept_tokens import KeptTokens


@dataclass(frozen=True, slots=True)
class Scores:
    """What is asked of each labelled token: [M] of a piece, or one place per slot of the batch."""

    log_prob: Tensor
    entropy: Tensor
    is_top1: Tensor


ScorePiece = Callable[[KeptTokens], Scores]


def scores_in_pieces(
    score: ScorePiece,
    pieces: Sequence[KeptTokens],
    size: int,
    trained: Sequence[Tensor],
    linear_loss: bool,
) -> Scores:
    """Score every piece and lay the results out over the batch; zero where there is no label.

    Args:
        score: computes one piece; its log-probabilities carry a graph when gradients are on.
        pieces: the batch.
        size: number of slots, B * (T - 1).
        trained: the tensors that want a gradient; they become inputs of the autograd graph.
        linear_loss: run each piece backward at once.

    Returns:
        Three tensors of `size` elements; `log_prob` is differentiable in `trained`.
    """
    if not trained or not torch.is_grad_enabled():
        with torch.no_grad():
            return _spread([score(piece) for piece in pieces], pieces, size, trained)
    if len(pieces) < 2:
        return _spread([score(piece) for piece in pieces], pieces, size, trained)
    plan = _Plan(score, pieces, size, linear_loss)
    return Scores(*_Pieces.apply(plan, *trained))


@dataclass(frozen=True, slots=True)
class _Plan:
    score: ScorePiece
    pieces: Sequence[KeptTokens]
    size: int
    linear_loss: bool


class _Pieces(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, *trained: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.plan, ctx.trained, ctx.collected = plan, trained, None
        if plan.linear_loss:
            ctx.collected = [None] * len(trained)
        parts = []
        for piece in plan.pieces:
            with torch.set_grad_enabled(plan.linear_loss):
                part = plan.score(piece)
            if ctx.collected is not None:
                ones = torch.ones_like(part.log_prob)
                _collect(part.log_prob, ones, trained, ctx.collected)
            parts.append(Scores(part.log_prob.detach(), part.entropy, part.is_top1))
        scores = _spread(parts, plan.pieces, plan.size, trained)
        ctx.mark_non_differentiable(scores.entropy, scores.is_top1)
        return scores.log_prob, scores.entropy, scores.is_top1

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        slopes = [upstream[0].index_select(0, piece.slots) for piece in ctx.plan.pieces]
        first = slopes[0][0]
        if ctx.collected is not None and all((s == first).all() for s in slopes):
            return None, *(None if g is None else g * first.to(g.dtype) for g in ctx.collected)
        gradients: list[Tensor | None] = [None] * len(ctx.trained)
        for piece, slope in zip(ctx.plan.pieces, slopes, strict=True):
            with torch.enable_grad():
                part = ctx.plan.score(piece)
            _collect(part.log_prob, slope, ctx.trained, gradients)
        return None, *gradients


def _collect(
    log_prob: Tensor, slope: Tensor, trained: Sequence[Tensor], into: list[Tensor | None]
) -> None:
    """Add the gradient of <slope, log_prob> to what is there; a tensor without one stays None."""
    found = torch.autograd.grad(log_prob, trained, slope, allow_unused=True)
    for i, gradient in enumerate(found):
        total = into[i]
        if total is None:
            into[i] = gradient
        elif gradient is not None:
            total += gradient


def _spread(
    parts: Sequence[Scores], pieces: Sequence[KeptTokens], size: int, trained: Sequence[Tensor]
) -> Scores:
    """Lay the parts' results out over the slots of the batch."""
    if not parts:
        device = trained[0].device if trained else torch.device("cpu")
        zero = torch.zeros(size, device=device)
        joined = zero + sum(
            (t.flatten()[:1].sum() * 0 for t in trained[:1]), start=zero.new_zeros(())
        )
        return Scores(joined, zero, zero.bool())
    slots = torch.cat([piece.slots for piece in pieces])

    def lay(values: list[Tensor]) -> Tensor:
        flat = torch.cat(values)
        return flat.new_zeros(size).index_copy(0, slots, flat)

    return Scores(
        lay([p.log_prob for p in parts]),
        lay([p.entropy for p in parts]),
        lay([p.is_top1 for p in parts]),
    )
