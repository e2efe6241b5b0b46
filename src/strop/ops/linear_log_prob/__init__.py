"""Log-probabilities of given tokens under a language-model head, without the logits."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from strop.core.dataless import has_data
from strop.core.dispatch import Impl, choose, cpu_obstacle, triton_obstacle
from strop.core.errors import ShapeError
from strop.ops.linear_log_prob import cpu, reference
from strop.ops.linear_log_prob.log_probs import LogProbs

__all__ = ["IMPLS", "LogProbs", "linear_log_prob"]


def linear_log_prob(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    impl: str | None = None,
) -> LogProbs:
    """Score one token per row under the head `weight`, going through the logits in tiles.

        z[m, v] = scale * (hidden[m, :] @ weight[v, :] + bias[v])
        z[m, v] = softcap * tanh(z[m, v] / softcap)        where softcap is given
        log_prob[m] = z[m, targets[m]] - log(sum_v exp(z[m, v]))

    The product is in the wider dtype of `hidden` and `weight`, everything after it in float32
    or wider. A sampling temperature T is the call with `scale / T` and `softcap / T`.

    A tile has about 64 MB of logits, on a GPU 128 MB in 16 bits; [M, V] is never held. With a frozen
    head the gradient of each row of `hidden` is computed while its tile is at hand, and [M, D] is all
    that is kept for backward. With a trained head the inputs are kept, and backward computes the
    tiles again.
    A head in a narrower dtype than `hidden` is widened a slice at a time.

    Args:
        hidden: [M, D] floating point; M may be 0.
        weight: [V, D] floating point, not necessarily the dtype of `hidden`.
        targets: [M] int64, each in 0 … V-1. On a GPU they are not looked at, which would stall it: the
            log_prob of a target outside is NaN.
        bias: [V], or None.
        scale: factor on the logits, before the soft-cap.
        softcap: bound on the logits' size, or None.
        impl: run this implementation or raise; None takes the first that can.

    Returns:
        log_prob: [M] float32 or wider, differentiable in `hidden`, `weight` and `bias`.
        entropy: [M] of the next-token distribution in nats, without gradient.
        is_top1: [M] bool, whether the target has the largest logit (of equals, the first).

    Raises:
        ShapeError: the tensors do not fit each other, or a target on CPU is not in the vocabulary.
        UnsupportedError: `impl` is unknown or cannot run here.
    """
    _check(hidden, weight, targets, bias)
    run = choose(IMPLS, impl, hidden, weight, *(() if bias is None else (bias,)))
    scored: LogProbs = run(hidden, weight, targets, bias, scale, softcap)
    return scored


def _check(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None) -> None:
    fits = (
        hidden.ndim == weight.ndim == 2
        and hidden.shape[1] == weight.shape[1]
        and targets.shape == hidden.shape[:1]
        and (bias is None or bias.shape == weight.shape[:1])
    )
    if not fits:
        raise ShapeError(
            "linear_log_prob takes hidden [M, D], weight [V, D], targets [M] and bias [V]; got "
            f"hidden {list(hidden.shape)}, weight {list(weight.shape)}, targets "
            f"{list(targets.shape)} and bias {None if bias is None else list(bias.shape)}"
        )
    if targets.dtype != torch.int64:
        raise ShapeError(f"linear_log_prob takes int64 targets; got {targets.dtype}")
    if torch.compiler.is_compiling() or targets.device.type != "cpu" or not has_data(targets):
        return
    outside = ((targets < 0) | (targets >= len(weight))).nonzero()
    if len(outside):
        row = int(outside[0])
        raise ShapeError(
            f"linear_log_prob: row {row} has target {int(targets[row])}, but the head has "
            f"{len(weight)} tokens, 0 to {len(weight) - 1}; leave out rows without a target"
        )


def _load_triton() -> Callable[..., Any]:
    from strop.ops.linear_log_prob.triton import linear_log_prob

    return linear_log_prob


IMPLS = (
    Impl("triton", _load_triton, triton_obstacle),
    Impl("cpu", lambda: cpu.linear_log_prob, cpu_obstacle),
    Impl("reference", lambda: reference.linear_log_prob),
)
"""Fastest first."""
