"""Divergence of a student's next token from a teacher's, without the logits of either."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from strop.core.dispatch import Impl, choose
from strop.core.errors import ShapeError
from strop.ops.linear_log_prob import divergence_tiled
from strop.ops.linear_log_prob.divergence_tiled import Logits, divergence

__all__ = ["IMPLS", "Logits", "linear_divergence", "top_k_divergence"]


def linear_divergence(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    *,
    beta: float = 0.0,
    logits: Logits = Logits(),  # noqa: B008 (it cannot be changed)
    teacher_logits: Logits = Logits(),  # noqa: B008
    impl: str | None = None,
) -> Tensor:
    """Return the generalised Jensen-Shannon divergence of each row, a tile of logits at a time.

        p = softmax(student logits), t = softmax(teacher logits), m = (1 - beta) p + beta t
        D = beta KL(t || m) + (1 - beta) KL(p || m)        for 0 < beta < 1
        D = KL(t || p) for beta 0, KL(p || t) for beta 1

    Eq. (1) of Agarwal et al. 2024 (arXiv:2306.13649), with TRL's meaning of beta; beta 0 is the
    distillation of Hinton et al. 2015 (arXiv:1503.02531) at temperature 1. With
    g = dD / d log p the gradient of the logits is g - p sum(g).

    Products are in the wider dtype of hidden rows and head, everything after them in float32 or
    wider. [M, V] is never held: the gradient of the hidden rows is computed while their tile is at
    hand, and [M, D] is all that is kept for backward. The heads and the teacher get no gradient.

    Args:
        hidden: [M, D] of the student; M may be 0.
        weight: [V, D] the student's head, frozen.
        teacher_hidden: [M, F] of the teacher, on the same tokens.
        teacher_weight: [V, F] the teacher's head.
        beta: from 0 to 1.
        logits: bias, scale and soft-cap of the student's.
        teacher_logits: those of the teacher's.
        impl: run this implementation or raise; None takes the first.

    Returns:
        [M] float32 or wider, in nats, differentiable in `hidden`.

    Raises:
        ShapeError: the tensors do not fit each other.
        UnsupportedError: `impl` is unknown.
    """
    fits = len(hidden) == len(teacher_hidden) and len(weight) == len(teacher_weight)
    if not fits or hidden.shape[1] != weight.shape[1]:
        raise ShapeError(
            "linear_divergence takes hidden [M, D], weight [V, D], teacher_hidden [M, F] and "
            f"teacher_weight [V, F]; got {list(hidden.shape)}, {list(weight.shape)}, "
            f"{list(teacher_hidden.shape)} and {list(teacher_weight.shape)}"
        )
    run = choose(IMPLS, impl, hidden, weight)
    result: Tensor = run(
        hidden, weight, logits, beta, heads=(teacher_hidden, teacher_weight, teacher_logits)
    )
    return result


def top_k_divergence(
    hidden: Tensor,
    weight: Tensor,
    log_probs: Tensor,
    tokens: Tensor,
    *,
    beta: float = 0.0,
    logits: Logits = Logits(),  # noqa: B008
    impl: str | None = None,
) -> Tensor:
    """Return the divergence of each row from what is stored of a teacher: its likeliest tokens.

    All other tokens together are one outcome, of student and teacher alike, so that K + 1
    probabilities are compared. It is at most `linear_divergence`, and equal to it where the others
    are as likely to one as to the other.

    Args:
        hidden: [M, D] of the student.
        weight: [V, D] the student's head, frozen.
        log_probs: [M, K+1] of the teacher's K likeliest tokens, and of all others together.
        tokens: [M, K] int64, the ids of these, different in each row.
        beta: see `linear_divergence`.
        logits: bias, scale and soft-cap of the student's.
        impl: run this implementation or raise; None takes the first.

    Returns:
        [M] float32 or wider, in nats, differentiable in `hidden`.

    Raises:
        ShapeError: the tensors do not fit each other.
        UnsupportedError: `impl` is unknown.
    """
    M, K = tokens.shape
    if len(hidden) != M or log_probs.shape != (M, K + 1) or len(weight) <= K:
        raise ShapeError(
            "top_k_divergence takes hidden [M, D], weight [V, D], log_probs [M, K+1] and tokens "
            f"[M, K] with K below V; got {list(hidden.shape)}, {list(weight.shape)}, "
            f"{list(log_probs.shape)} and {list(tokens.shape)}"
        )
    run = choose(IMPLS, impl, hidden, weight)
    result: Tensor = run(hidden, weight, logits, beta, stored=(log_probs, tokens))
    return result


def _reference(
    hidden: Tensor,
    weight: Tensor,
    logits: Logits,
    beta: float,
    *,
    heads: tuple[Tensor, Tensor, Logits] | None = None,
    stored: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the divergences with all logits at once: the definition."""
    student = _log_probs(hidden, weight.detach(), logits)
    if heads is not None:
        teacher = _log_probs(heads[0].detach(), heads[1].detach(), heads[2])
        return divergence(student, teacher, beta)[0]
    assert stored is not None
    log_probs, tokens = stored
    others = student.scatter(1, tokens, -torch.inf).logsumexp(-1, keepdim=True)
    grouped = torch.cat((student.gather(1, tokens), others), 1)
    return divergence(grouped, log_probs.detach().to(grouped.dtype), beta)[0]


def _log_probs(hidden: Tensor, weight: Tensor, logits: Logits) -> Tensor:
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    products = hidden.to(dtype) @ weight.to(dtype).T
    return logits.of(products.to(torch.promote_types(dtype, torch.float32)))[0].log_softmax(-1)


def _load_tiled() -> Callable[..., Any]:
    return divergence_tiled.run


IMPLS = (Impl("tiled", _load_tiled), Impl("reference", lambda: _reference))
"""Fastest first."""
