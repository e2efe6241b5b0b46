"""Attention among segments with a dense mask: the definition the other implementations are held to."""

import torch
from torch import Tensor

from strop.ops.segment_attention.segments import Segments


def visible(segments: Segments, window: int | None, device: torch.device) -> Tensor:
    """Return [N, N] bool: whether the token of a row sees the token of a column."""
    N = segments.size
    mask = torch.zeros(N, N, dtype=torch.bool, device=device)
    depth = torch.empty(N, dtype=torch.int64, device=device)
    for index, (start, length) in enumerate(zip(segments.starts, segments.lengths, strict=True)):
        rows = slice(start, start + length)
        depth[rows] = torch.arange(length, device=device) + segments.offsets[index]
        mask[rows, rows] = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        for above in segments.ancestors(index):
            first = segments.starts[above]
            mask[rows, first : first + segments.lengths[above]] = True
    if window is not None:
        mask &= depth[:, None] - depth[None, :] < window
    return mask


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
    wide = torch.promote_types(q.dtype, torch.float32)
    repeats = q.shape[1] // k.shape[1]
    keys = k.to(wide).repeat_interleave(repeats, 1)  # [N, H, C]
    values = v.to(wide).repeat_interleave(repeats, 1)
    scores = torch.einsum("nhc,mhc->hnm", q.to(wide), keys) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~visible(segments, window, q.device), -torch.inf)
    return torch.einsum("hnm,mhc->nhc", scores.softmax(-1), values).to(q.dtype)
