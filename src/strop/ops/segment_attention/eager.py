"""Attention among segments, on any device.

In float32 and bfloat16 on a CPU with a compiler by C++ (`cpu`). Otherwise by the kernels PyTorch ships
(`flash`): each segment over itself, each subtree over the segment above it. Where there is none, and
with a soft-cap or a window that cuts, in tiles of plain PyTorch (`tiles`).

The results of the calls merge by their log-sum-exp; in backward every call is given the merged
output and log-sum-exp, so that its gradients are those of the whole (flash attention 2, section 3.1).
Grouped-query heads are not repeated: the kernel takes fewer key heads.
"""

from typing import Any

import torch
from torch import Tensor

from strop.ops.segment_attention import cpu, tiles
from strop.ops.segment_attention.flash import Kernel, kernel_for
from strop.ops.segment_attention.segments import Segments
from strop.ops.segment_attention.settings import Settings


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    segments: Segments,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    """Return the output [N, H, C] and the log-sum-exp [H, N] that backward needs."""
    settings = Settings(segments, scale, window, softcap)
    if cpu.can_run(q):
        return cpu.forward(q, k, v, settings)
    kernel = None if _needs_tiles(segments, window, softcap) else kernel_for(q)
    if kernel is None:
        return tiles.forward(q, k, v, settings)
    N, H, C = q.shape
    out = torch.empty(N, H, C, dtype=q.dtype, device=q.device)
    wide = torch.promote_types(q.dtype, torch.float32)
    lse = torch.empty(H, N, dtype=wide, device=q.device)
    q, k, v = (_heads_first(t) for t in (q, k, v))
    for start, length in zip(segments.starts, segments.lengths, strict=True):
        rows = slice(start, start + length)
        part, part_lse = kernel.forward(q[:, :, rows], k[:, :, rows], v[:, :, rows], True, scale)
        out[rows] = part[0].transpose(0, 1)
        lse[:, rows] = part_lse[0]
    for above, below in _prefixes(segments):
        part, part_lse = kernel.forward(
            q[:, :, below], k[:, :, above], v[:, :, above], False, scale
        )
        merged = torch.logaddexp(lse[:, below], part_lse[0])
        keep = torch.exp(lse[:, below] - merged).T[..., None].to(out.dtype)
        take = torch.exp(part_lse[0] - merged).T[..., None].to(out.dtype)
        out[below].mul_(keep).addcmul_(part[0].transpose(0, 1), take)
        lse[:, below] = merged
    return out, lse


def backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    segments: Segments,
    scale: float,
    window: int | None,
    softcap: float | None,
    into: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q [N, H, C], k and v [N, K, C].

    Args:
        dout: [N, H, C] gradient of the output.
        q: as given to `forward`, likewise `k`, `v`, `segments`, `scale`, `window`, `softcap`.
        k: see `q`.
        v: see `q`.
        out: as returned by `forward`, likewise `lse`.
        lse: see `out`.
        segments: see `q`.
        scale: see `q`.
        window: see `q`.
        softcap: see `q`.
        into: write into these three tensors, which may be views of one buffer, and return them.
    """
    dq, dk, dv = into or (torch.empty_like(q), torch.empty_like(k), torch.empty_like(v))
    settings = Settings(segments, scale, window, softcap)
    if cpu.can_run(q):
        cpu.backward(dout, q, k, v, out, lse, settings, (dq, dk, dv))
        return dq, dk, dv
    kernel = None if _needs_tiles(segments, window, softcap) else kernel_for(q)
    if kernel is None:
        tiles.backward(dout, q, k, v, out, lse, settings, (dq, dk, dv))
        return dq, dk, dv
    q, k, v, dout, out = (_heads_first(t) for t in (q, k, v, dout, out))
    whole = dout, q, k, v, out, lse
    for start, length in zip(segments.starts, segments.lengths, strict=True):
        rows = slice(start, start + length)
        parts = _part_gradients(kernel, whole, rows, rows, True, scale)
        for gradient, part in zip((dq, dk, dv), parts, strict=True):
            gradient[rows] = part[0].transpose(0, 1)
    for above, below in _prefixes(segments):
        parts = _part_gradients(kernel, whole, below, above, False, scale)
        for gradient, part, keys in zip((dq, dk, dv), parts, (below, above, above), strict=True):
            gradient[keys] += part[0].transpose(0, 1)
    return dq, dk, dv


class _SegmentAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, settings: tuple[Any, ...]) -> Tensor:
        out, lse = forward(q, k, v, *settings)
        ctx.settings = settings
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, *dout: Tensor) -> tuple[Tensor | None, ...]:
        gradients = backward(dout[0], *ctx.saved_tensors, *ctx.settings)
        needed = zip(gradients, ctx.needs_input_grad[:3], strict=True)
        return *(g if needs else None for g, needs in needed), None


def segment_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    segments: Segments,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """See `strop.ops.segment_attention`."""
    attended: Tensor = _SegmentAttention.apply(q, k, v, (segments, scale, window, softcap))
    return attended


def _needs_tiles(segments: Segments, window: int | None, softcap: float | None) -> bool:
    return softcap is not None or (window is not None and segments.depth_reach() > window)


def _prefixes(segments: Segments) -> list[tuple[slice, slice]]:
    """Return for each segment that has descendants its own rows and the rows of those descendants."""
    prefixes = []
    for start, length, end in zip(segments.starts, segments.lengths, segments.ends, strict=True):
        if end > start + length:
            prefixes.append((slice(start, start + length), slice(start + length, end)))
    return prefixes


def _heads_first(x: Tensor) -> Tensor:
    """View [N, H, C] as the [1, H, N, C] that the kernels take."""
    return x.transpose(0, 1)[None]


def _part_gradients(
    kernel: Kernel,
    whole: tuple[Tensor, ...],
    queries: slice,
    keys: slice,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the keys of some rows give to the gradients of the queries of others."""
    dout, q, k, v, out, lse = whole
    saved = (
        q[:, :, queries],
        k[:, :, keys],
        v[:, :, keys],
        out[:, :, queries],
        lse[None, :, queries],
    )
    return kernel.backward(dout[:, :, queries], saved, causal, scale)
