"""Log-probabilities under a head on a GPU: a program reads a row of products once for its scores.

Where the gradient is needed, it goes over the row again, most of it still in the cache, and puts
the gradient in its place. The products are PyTorch's, in the dtype of hidden rows and head; rows of
them are held in that dtype only.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from strop.core.dataless import launches
from strop.ops.linear_log_prob import tiled
from strop.ops.linear_log_prob.log_probs import LogProbs
from strop.ops.linear_log_prob.tiled import Rows, Settings

TILE_BYTES = 256_000_000
"""Products held at once, in float32; half of it in 16 bits. 500 rows of Llama-3's vocabulary: enough
that its head is read from memory in less time than the product takes on any card."""
SLICE_BYTES = 64_000_000
"""Of a head in a narrower dtype than the product's, what is widened at once."""
BLOCK = 4096
"""Products a program takes at once: 8 to each of 64 lanes in 8 warps, a load of 128 bits in 16-bit
formats; of 32 lanes two."""


@triton.jit
def _logits(x, scale, softcap, SOFTCAP: tl.constexpr):
    """Return the logits, and their derivative in scale * x."""
    z = x * scale
    slope = 1.0
    if SOFTCAP:
        small = tl.exp(-2.0 * tl.abs(z / softcap))
        bound = softcap * (1.0 - small) / (1.0 + small)
        slope = 4.0 * small / ((1.0 + small) * (1.0 + small))
        z = tl.where(z < 0.0, -bound, bound)
    return z, slope


@triton.jit
def _tile(z_row, Bias, cols, z_r, V, scale, softcap, HAS_BIAS: tl.constexpr, SOFTCAP: tl.constexpr):
    """Return logits and derivatives of some columns; behind the vocabulary the logits are -inf."""
    x = tl.load(z_row + cols, mask=cols < z_r, other=0.0).to(tl.float32)
    if HAS_BIAS:
        x += tl.load(Bias + cols, mask=cols < V, other=0.0).to(tl.float32)
    z, slope = _logits(x, scale, softcap, SOFTCAP)
    return tl.where(cols < V, z, float("-inf")), slope


@triton.jit
def _score_kernel(
    Z, Bias, Targets, Upstream, LogProb, Entropy, IsTop1, z_r, rows, V, scale, softcap,
    HAS_BIAS: tl.constexpr, SOFTCAP: tl.constexpr, HAS_UPSTREAM: tl.constexpr,
    GRADIENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    there = row < rows
    z_row = Z + row * z_r
    target = tl.load(Targets + row, mask=there, other=-1)
    known = (target >= 0) & (target < V)
    target_logit = tl.load(z_row + target, mask=known, other=float("nan")).to(tl.float32)
    if HAS_BIAS:
        target_logit += tl.load(Bias + target, mask=known, other=0.0).to(tl.float32)
    target_logit = _logits(target_logit, scale, softcap, SOFTCAP)[0]

    top = -3.4028234663852886e38
    total = 0.0
    weighted = 0.0
    beaten = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, V, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        z = _tile(z_row, Bias, cols, z_r, V, scale, softcap, HAS_BIAS, SOFTCAP)[0]
        beaten |= ((z > target_logit) | ((z == target_logit) & (cols < target))).to(tl.int32)
        higher = tl.maximum(top, tl.max(z, axis=0))
        shrink = tl.exp(top - higher)
        shifted = z - higher
        share = tl.exp(shifted)
        block_weighted = tl.sum(
            share * tl.maximum(shifted, -1e4), axis=0
        )  # 0 for what is infinitely low
        weighted = shrink * (weighted + (top - higher) * total) + block_weighted
        total = shrink * total + tl.sum(share, axis=0)
        top = higher
    log_total = tl.log(total)
    tl.store(LogProb + row, target_logit - top - log_total, mask=there)
    tl.store(Entropy + row, log_total - weighted / total, mask=there)
    is_top1 = known & (tl.max(beaten, axis=0) == 0) & (total == total)  # not of a row with NaN
    tl.store(IsTop1 + row, is_top1, mask=there)

    if GRADIENT:
        factor = scale
        if HAS_UPSTREAM:
            factor = scale * tl.load(Upstream + row, mask=there, other=0.0)
        part = 1.0 / total
        tl.debug_barrier()  # every lane has read the target's logit
        for start in range(0, V, BLOCK):
            cols = start + tl.arange(0, BLOCK)
            z, slope = _tile(z_row, Bias, cols, z_r, V, scale, softcap, HAS_BIAS, SOFTCAP)
            hit = tl.where(cols == target, 1.0, 0.0)
            dz = factor * slope * (hit - part * tl.exp(z - top))
            tl.store(z_row + cols, dz.to(Z.dtype.element_ty), mask=cols < z_r)


def _score(padded: Tensor, V: int, rows: Rows, settings: Settings, *, gradient: bool) -> Tensor:
    """See `Scorer`; the products are overwritten with their gradient."""
    if len(padded) and launches(padded):
        block = min(triton.next_power_of_2(V), BLOCK)
        _score_kernel[(len(padded),)](
            padded, padded if rows.bias is None else rows.bias.contiguous(), rows.targets,
            rows.log_prob if rows.upstream is None else rows.upstream,
            rows.log_prob, rows.entropy, rows.is_top1, padded.stride(0), len(padded), V,
            float(settings.scale), float(settings.softcap or 1.0),
            HAS_BIAS=rows.bias is not None, SOFTCAP=settings.softcap is not None,
            HAS_UPSTREAM=rows.upstream is not None, GRADIENT=gradient, BLOCK=block,
            num_warps=max(block // 512, 1), enable_fp_fusion=True,
        )  # fmt: skip
    return padded[:, :V]


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
