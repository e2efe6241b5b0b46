"""Log-probabilities under a head on CPU: one tile of rows at a time, gradients in the same pass."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from strop.core import native
from strop.ops.linear_log_prob import tiled
from strop.ops.linear_log_prob.log_probs import LogProbs
from strop.ops.linear_log_prob.tiled import Rows, Settings

SOURCE = Path(__file__).with_name("cpu.cpp")
TILE_BYTES = 64_000_000
"""Logits held at once, where the vocabulary is not large; see `tiled.tile_rows`."""
SLICE_BYTES = 4_000_000
"""Of a head in a narrow dtype, what is widened at once; it should stay in the cache."""


def linear_log_prob(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    scale: float,
    softcap: float | None,
) -> LogProbs:
    """See `strop.ops.linear_log_prob`."""
    enabled = torch.is_grad_enabled()
    most = tiled.tile_rows(len(weight), weight.shape[1], TILE_BYTES)
    settings = Settings(scale, softcap, enabled, _score, most, SLICE_BYTES)
    return tiled.run(hidden, weight, targets, bias, settings)


def _score(padded: Tensor, V: int, rows: Rows, settings: Settings, *, gradient: bool) -> Tensor:
    """See `Scorer`; sums are in float32 or wider."""
    products = padded[:, :V]
    if (run := native.function_for(SOURCE, "score", "pppppppqqqffii", products)) is not None:
        _run_score(run, products, rows, settings, gradient)
        return products
    z = products.to(rows.log_prob.dtype)
    if rows.bias is not None:
        z.add_(rows.bias)
    if settings.scale != 1:
        z.mul_(settings.scale)
    if settings.softcap is not None:
        z.div_(settings.softcap).tanh_().mul_(settings.softcap)
    top, best = z.max(-1, keepdim=True)
    shifted = z - top
    target_logit = shifted.gather(-1, rows.targets[:, None])[:, 0]
    weights = shifted.exp()
    total = weights.sum(-1)
    log_total = total.log()
    rows.log_prob.copy_(target_logit - log_total)
    rows.entropy.copy_(log_total - weights.mul_(shifted).sum(-1) / total)
    rows.is_top1.copy_(best[:, 0] == rows.targets)
    if gradient:
        _gradient_(z, rows, log_total + top[:, 0], settings)
    return z


def _run_score(
    run: Callable[..., None], z: Tensor, rows: Rows, settings: Settings, gradient: bool
) -> None:
    bias = None if rows.bias is None else rows.bias.float().contiguous()
    run(
        z, bias, rows.targets, rows.upstream, rows.log_prob, rows.entropy, rows.is_top1,
        *z.shape, z.stride(0), settings.scale, settings.softcap or 0.0, gradient,
        torch.get_num_threads(),
    )  # fmt: skip


def _gradient_(z: Tensor, rows: Rows, lse: Tensor, settings: Settings) -> None:
    """Overwrite the logits `z` with upstream times the gradient of log_prob in the product."""
    slope = None
    if settings.softcap is not None:
        slope = (z / settings.softcap).square_().neg_().add_(1)
    z.sub_(lse[:, None]).exp_().neg_()
    z.scatter_add_(-1, rows.targets[:, None], z.new_ones(len(z), 1))
    if slope is not None:
        z.mul_(slope)
    if settings.scale != 1:
        z.mul_(settings.scale)
    if rows.upstream is not None:
        z.mul_(rows.upstream[:, None])
