"""Log-probabilities under a head on CPU: one tile of rows at a time, gradients in the same pass."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strop.core import native
from strop.ops.linear_log_prob.log_probs import LogProbs

SOURCE = Path(__file__).with_name("cpu.cpp")
TILE_BYTES = 64_000_000
"""Logits held at once. Larger tiles gain little: the products are already at their full rate."""
SLICE_BYTES = 4_000_000
"""Of a head in a narrow dtype, what is widened at once; it should stay in the cache."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is not a tensor."""

    scale: float
    softcap: float | None
    grad_enabled: bool


def linear_log_prob(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    scale: float,
    softcap: float | None,
) -> LogProbs:
    """See `strop.ops.linear_log_prob`."""
    settings = Settings(scale, softcap, torch.is_grad_enabled())
    with torch.autocast(hidden.device.type, enabled=False):  # the dtypes of the tensors decide
        return LogProbs(*_LinearLogProb.apply(hidden, weight, bias, targets, settings))


class _LinearLogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        settings: Settings,
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden_needs, *head_needs = ctx.needs_input_grad[:3]
        head_trained = any(head_needs) and settings.grad_enabled
        hidden_only = hidden_needs and settings.grad_enabled and not head_trained
        M = len(hidden)
        log_prob, entropy = hidden.new_empty((2, M), dtype=_wide(hidden, weight))
        is_top1 = torch.empty(M, dtype=torch.bool, device=hidden.device)
        dhidden = hidden.new_empty(hidden.shape) if hidden_only else None  # of log_prob, by row
        buffer = _buffer(hidden, weight)
        for rows in _tiles(M, len(weight), log_prob.dtype):
            z = _product(hidden[rows], weight, buffer)
            scored = _score_(z, bias, targets[rows], settings, gradient=hidden_only)
            log_prob[rows], entropy[rows], is_top1[rows] = scored
            if dhidden is not None:
                dhidden[rows] = _times_head(z, weight, hidden.dtype)
        ctx.settings = settings
        if dhidden is not None:
            ctx.save_for_backward(dhidden)
        elif head_trained:
            ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.mark_non_differentiable(entropy, is_top1)
        return log_prob, entropy, is_top1

    @staticmethod
    def backward(
        ctx: Any, dlog_prob: Tensor, *_: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        if len(ctx.saved_tensors) == 1:
            (dhidden,) = ctx.saved_tensors
            return (dhidden * dlog_prob[:, None]).to(dhidden.dtype), None, None, None, None
        return *_trained_head_backward(dlog_prob, ctx), None, None


def _trained_head_backward(
    dlog_prob: Tensor, ctx: Any
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    hidden, weight, bias, targets = ctx.saved_tensors
    hidden_needs, weight_needs, bias_needs = ctx.needs_input_grad[:3]
    wide = dlog_prob.dtype
    dhidden = hidden.new_empty(hidden.shape) if hidden_needs else None
    dweight = torch.zeros_like(weight, dtype=wide) if weight_needs else None
    dbias = torch.zeros_like(bias, dtype=wide) if bias_needs else None
    buffer = _buffer(hidden, weight)
    for rows in _tiles(len(hidden), len(weight), wide):
        upstream = dlog_prob[rows, None]
        z = _product(hidden[rows], weight, buffer)
        _score_(z, bias, targets[rows], ctx.settings, gradient=True)
        if dhidden is not None:
            dhidden[rows] = _times_head(z, weight, hidden.dtype) * upstream
        if dweight is not None:
            dweight.addmm_(z.T, hidden[rows].to(wide) * upstream)
        if dbias is not None:
            dbias.addmv_(z.T, upstream[:, 0])
    return (
        dhidden,
        None if dweight is None else dweight.to(weight.dtype),
        None if dbias is None else dbias.to(bias.dtype),
    )


def _wide(hidden: Tensor, weight: Tensor) -> torch.dtype:
    narrow = torch.promote_types(hidden.dtype, weight.dtype)
    return torch.promote_types(narrow, torch.float32)


def _tile_rows(M: int, V: int, dtype: torch.dtype) -> int:
    """Return how many rows a tile has; all have the same, for a short last one would be slow."""
    most = max(1, TILE_BYTES // (V * dtype.itemsize))
    return math.ceil(M / math.ceil(M / most)) if M else 1


def _tiles(M: int, V: int, dtype: torch.dtype) -> Iterator[slice]:
    rows = _tile_rows(M, V, dtype)
    for start in range(0, M, rows):
        yield slice(start, min(start + rows, M))


def _buffer(hidden: Tensor, weight: Tensor) -> Tensor:
    """Return space for the products of one tile; fresh pages for each would cost time."""
    rows = _tile_rows(len(hidden), len(weight), _wide(hidden, weight))
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    return hidden.new_empty(rows, len(weight), dtype=dtype)


def _slices(weight: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Yield the head in `dtype`: as it is, or a slice of the vocabulary at a time."""
    V, D = weight.shape
    if weight.dtype == dtype:
        yield slice(0, V), weight
        return
    tokens = max(1, SLICE_BYTES // (D * dtype.itemsize))
    buffer = weight.new_empty(min(tokens, V), D, dtype=dtype)
    for start in range(0, V, tokens):
        narrow = weight[start : start + tokens]
        yield slice(start, start + len(narrow)), buffer[: len(narrow)].copy_(narrow)


def _product(hidden: Tensor, weight: Tensor, buffer: Tensor) -> Tensor:
    """Return hidden [R, D] @ weight.T [D, V] in float32 or wider; `buffer` is overwritten."""
    z = buffer[: len(hidden)]
    hidden = hidden.to(z.dtype)
    for tokens, dense in _slices(weight, z.dtype):
        torch.mm(hidden, dense.T, out=z[:, tokens])
    return z.to(_wide(hidden, weight))


def _score_(
    z: Tensor, bias: Tensor | None, targets: Tensor, settings: Settings, *, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-probability, entropy and is-top-1 [R] for the products `z` [R, V].

    `z` is overwritten: with the gradient of log_prob with respect to itself if `gradient`.
    """
    if z.dtype == torch.float32 and z.device.type == "cpu":
        run = native.function(SOURCE, "score", "ppppppqqqffii")
        if run is not None:
            return _run_score(run, z, bias, targets, settings, gradient)
    if bias is not None:
        z.add_(bias)
    if settings.scale != 1:
        z.mul_(settings.scale)
    if settings.softcap is not None:
        z.div_(settings.softcap).tanh_().mul_(settings.softcap)
    top, best = z.max(-1, keepdim=True)
    shifted = z - top
    wanted = shifted.gather(-1, targets[:, None])[:, 0]
    weights = shifted.exp()
    total = weights.sum(-1)
    log_total = total.log()
    entropy = log_total - weights.mul_(shifted).sum(-1) / total
    if gradient:
        _gradient_(z, targets, log_total + top[:, 0], settings)
    return wanted - log_total, entropy, best[:, 0] == targets


def _run_score(
    run: Callable[..., None],
    z: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    settings: Settings,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    R, V = z.shape
    log_prob, entropy = z.new_empty(2, R)
    is_top1 = torch.empty(R, dtype=torch.bool)
    bias = None if bias is None else bias.float().contiguous()
    targets = targets.contiguous()
    run(
        z, bias, targets, log_prob, entropy, is_top1, R, V, z.stride(0),
        settings.scale, settings.softcap or 0.0, gradient, torch.get_num_threads(),
    )  # fmt: skip
    return log_prob, entropy, is_top1


def _gradient_(z: Tensor, targets: Tensor, lse: Tensor, settings: Settings) -> None:
    """Overwrite the logits `z` with the gradient of log_prob with respect to the product."""
    slope = None
    if settings.softcap is not None:
        slope = (z / settings.softcap).square_().neg_().add_(1)
    z.sub_(lse[:, None]).exp_().neg_()
    z.scatter_add_(-1, targets[:, None], z.new_ones(len(z), 1))
    if slope is not None:
        z.mul_(slope)
    if settings.scale != 1:
        z.mul_(settings.scale)


def _times_head(dz: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return dz [R, V] @ weight [V, D] in `dtype`."""
    product_dtype = torch.promote_types(dtype, weight.dtype)
    dz = dz.to(product_dtype)
    out: Tensor | None = None
    for tokens, dense in _slices(weight, product_dtype):
        if out is None:
            out = dz[:, tokens] @ dense
        else:
            out.addmm_(dz[:, tokens], dense)
    assert out is not None, "a head without tokens has no target"
    return out.to(dtype)
