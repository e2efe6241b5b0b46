"""Attention of one run in tiles of queries, for scores that a flash kernel cannot make.

Used where scores are soft-capped or where a sliding window cuts into a run. A tile holds at most
`TILE` queries against the keys they can see; nothing of size [N, N] exists.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from strop.ops.segment_attention.segments import Segments

TILE = 256
"""Queries in a tile."""


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    segments: Segments,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    """Return the output [N, H, C] and the log-sum-exp [H, N] of every query."""
    N, H, C = q.shape
    out = torch.empty_like(q)
    wide = torch.promote_types(q.dtype, torch.float32)
    lse = torch.empty(H, N, dtype=wide, device=q.device)
    for rows, columns, hidden in _tiles(segments, window, q.device):
        scores = _scores(q[rows], k[columns], hidden, scale, softcap)[0]  # [K, H/K, n, m]
        tile_lse = scores.logsumexp(-1)
        lse[:, rows] = tile_lse.reshape(H, -1)
        weights = torch.exp(scores - tile_lse[..., None]).flatten(1, 2)
        mixed = torch.bmm(weights, v[columns].to(wide).transpose(0, 1))  # [K, H/K * n, C]
        out[rows] = mixed.view(H, -1, C).transpose(0, 1).to(q.dtype)
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
    into: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Write the gradients of q, k and v into the three tensors of `into`, which hold zeros."""
    dq, *sums = into
    H, C = q.shape[1:]
    wide = lse.dtype
    dk, dv = (t if t.dtype == wide else torch.zeros_like(t, dtype=wide) for t in sums)
    for rows, columns, hidden in _tiles(segments, window, q.device):
        scores, slope = _scores(q[rows], k[columns], hidden, scale, softcap)
        weights = torch.exp(scores - lse[:, rows].view(*scores.shape[:3], 1))
        upstream = _by_key_head(dout[rows].to(wide), k.shape[1])  # [K, H/K, n, C]
        values = v[columns].to(wide).transpose(0, 1)  # [K, m, C]
        dv[columns] += torch.bmm(weights.flatten(1, 2).mT, upstream.flatten(1, 2)).transpose(0, 1)
        own = _by_key_head(out[rows].to(wide), k.shape[1])
        delta = (upstream * own).sum(-1, keepdim=True)
        dscores = torch.bmm(upstream.flatten(1, 2), values.mT).view_as(weights)
        dscores = weights * (dscores - delta)
        if slope is not None:
            dscores *= slope
        flat = dscores.flatten(1, 2).mul_(scale)  # [K, H/K * n, m]
        keys = k[columns].to(wide).transpose(0, 1)
        dq[rows] = torch.bmm(flat, keys).view(H, -1, C).transpose(0, 1).to(dq.dtype)
        queries = _by_key_head(q[rows].to(wide), k.shape[1]).flatten(1, 2)
        dk[columns] += torch.bmm(flat.mT, queries).transpose(0, 1)
    for narrow, total in zip(sums, (dk, dv), strict=True):
        if total is not narrow:
            narrow.copy_(total)


def _by_key_head(x: Tensor, K: int) -> Tensor:
    """Turn [n, H, C] into [K, H/K, n, C]."""
    n, H, C = x.shape
    return x.view(n, K, H // K, C).permute(1, 2, 0, 3)


def _scores(
    q: Tensor, k: Tensor, hidden: Tensor, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor | None]:
    """Return masked scores [K, H/K, n, m] and the slope of the soft-cap at each, if there is one."""
    wide = torch.promote_types(q.dtype, torch.float32)
    queries = _by_key_head(q.to(wide), k.shape[1])
    K, repeats, n, C = queries.shape
    keys = k.to(wide).permute(1, 2, 0)  # [K, C, m]
    scores = torch.bmm(queries.reshape(K, repeats * n, C), keys).mul_(scale)
    scores = scores.view(K, repeats, n, -1)
    slope = None
    if softcap is not None:
        unit = torch.tanh(scores / softcap)
        scores, slope = unit * softcap, 1 - unit.square()
    return scores.masked_fill_(hidden, -torch.inf), slope


def _tiles(
    segments: Segments, window: int | None, device: torch.device
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield query rows, the key rows they can see, and [n, m] bool: which of these are hidden."""
    for run, (start, length) in enumerate(zip(segments.starts, segments.lengths, strict=True)):
        path = [*reversed(list(segments.ancestors(run))), run]
        spans = [
            torch.arange(segments.lengths[r], device=device) + segments.starts[r] for r in path
        ]
        keys = torch.cat(spans)  # by depth
        for first in range(0, length, TILE):
            n = min(TILE, length - first)
            top = segments.offsets[run] + first  # depth of the tile's first query
            low = 0 if window is None else max(0, top - window + 1)
            depth = torch.arange(low, top + n, device=device)
            gap = torch.arange(top, top + n, device=device)[:, None] - depth[None, :]
            hidden = gap < 0
            if window is not None:
                hidden |= gap >= window
            rows = slice(start + first, start + first + n)
            yield rows, keys[low : top + n], hidden
