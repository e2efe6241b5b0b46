"""Attention in tiles of queries: two products forward, five backward, one pass between them.

A tile holds `TILE` queries of one segment against the keys they can see, its ancestors' among them;
nothing of size [N, N] exists. The heads that share a key head stand in one product.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from strop.core import work
from strop.core.dataless import has_data
from strop.ops.segment_attention.settings import Settings

TILE = 64
"""Queries in a tile: few, so that little is computed above the diagonal."""


@dataclass(frozen=True, slots=True)
class _Tile:
    rows: slice
    """The queries."""
    keys: slice | Tensor
    """The rows of the keys they can see, by depth."""
    top: int
    """Index among these keys of the first query's own."""

    @property
    def size(self) -> tuple[int, int]:
        """Return the number of queries and of keys."""
        keys = self.keys
        seen = keys.stop - keys.start if isinstance(keys, slice) else len(keys)
        return self.rows.stop - self.rows.start, seen


def forward(q: Tensor, k: Tensor, v: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Return the output [N, H, C] and the log-sum-exp [H, N] of every query."""
    N, H, C = q.shape
    out = torch.empty(N, H, C, dtype=q.dtype, device=q.device)
    wide = torch.promote_types(q.dtype, torch.float32)
    lse = torch.empty(H, N, dtype=wide, device=q.device)
    for tile in _worth_running(settings, q, 4):
        queries = _by_key_head(q[tile.rows].to(wide), k.shape[1])  # [K, H/K * n, C]
        scores = torch.bmm(queries, k[tile.keys].to(wide).permute(1, 2, 0))  # [K, H/K * n, m]
        _weights_(scores, lse[:, tile.rows], tile, settings)
        mixed = torch.bmm(scores, v[tile.keys].to(wide).transpose(0, 1))
        out[tile.rows] = mixed.view(H, -1, C).transpose(0, 1)
    return out, lse


def backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    settings: Settings,
    into: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Write the gradients of q, k and v into the three tensors of `into`."""
    dq, *narrow = into
    H, C = q.shape[1:]
    K, wide = k.shape[1], lse.dtype
    dk, dv = (t.zero_() if t.dtype == wide else torch.zeros_like(t, dtype=wide) for t in narrow)
    delta = torch.einsum("nhc,nhc->hn", dout.to(wide), out.to(wide)).contiguous()
    for tile in _worth_running(settings, q, 10):
        queries = _by_key_head(q[tile.rows].to(wide), K)
        upstream = _by_key_head(dout[tile.rows].to(wide), K)
        keys, values = (t[tile.keys].to(wide).transpose(0, 1) for t in (k, v))  # [K, m, C]
        scores = torch.bmm(queries, keys.mT)
        slopes = torch.bmm(upstream, values.mT)
        _gradients_(scores, slopes, lse[:, tile.rows], delta[:, tile.rows], tile, settings)
        dq[tile.rows] = torch.bmm(slopes, keys).view(H, -1, C).transpose(0, 1)
        dk[tile.keys] += torch.bmm(slopes.mT, queries).transpose(0, 1)
        dv[tile.keys] += torch.bmm(scores.mT, upstream).transpose(0, 1)
    for part, total in zip(narrow, (dk, dv), strict=True):
        if total is not part:
            part.copy_(total)


def _by_key_head(x: Tensor, K: int) -> Tensor:
    """Turn [n, H, C] into [K, H/K * n, C]."""
    n, H, C = x.shape
    return x.view(n, K, H // K, C).permute(1, 2, 0, 3).reshape(K, -1, C)


def _weights_(scores: Tensor, lse: Tensor, tile: _Tile, settings: Settings) -> None:
    """Turn products [K, H/K * n, m] into weights, and write their log-sum-exp [H, n]."""
    heads = scores.view(len(lse), -1, scores.shape[-1])  # [H, n, m]
    capped, _ = _capped(heads, settings)
    capped.masked_fill_(_hidden(heads, tile, settings), -torch.inf)
    lse.copy_(capped.logsumexp(-1))
    torch.exp(capped - lse[..., None], out=heads)


def _gradients_(
    scores: Tensor, slopes: Tensor, lse: Tensor, delta: Tensor, tile: _Tile, settings: Settings
) -> None:
    """Turn products into weights, and <dout, v> into the gradients of the products."""
    heads, down = (t.view(len(lse), -1, t.shape[-1]) for t in (scores, slopes))  # [H, n, m]
    capped, unit = _capped(heads, settings)
    capped.masked_fill_(_hidden(heads, tile, settings), -torch.inf)
    torch.exp(capped - lse[..., None], out=heads)
    down.sub_(delta[..., None]).mul_(heads).mul_(settings.scale)
    if unit is not None:
        down.mul_(1 - unit.square())


def _capped(heads: Tensor, settings: Settings) -> tuple[Tensor, Tensor | None]:
    """Return scaled and capped scores, and the hyperbolic tangent that capped them."""
    scaled = heads * settings.scale
    if settings.softcap is None:
        return scaled, None
    unit = torch.tanh(scaled / settings.softcap)
    return unit * settings.softcap, unit


def _hidden(heads: Tensor, tile: _Tile, settings: Settings) -> Tensor:
    """Return [n, m] bool: which keys a query does not see."""
    n, m = heads.shape[1:]
    depth = torch.arange(n, device=heads.device)[:, None] + tile.top
    gap = depth - torch.arange(m, device=heads.device)[None, :]
    hidden = gap < 0
    return hidden if settings.window is None else hidden | (gap >= settings.window)


def _worth_running(settings: Settings, q: Tensor, flops: int) -> Iterator[_Tile]:
    """Yield the tiles; where q has no data, only those that decide how much memory is needed.

    These are the tiles that no other exceeds in queries and in keys, and their neighbours, since a
    tile's last tensors live beside the first of the next. The arithmetic of the others is counted.

    Args:
        settings: the segments, and who sees whom.
        q: [N, H, C]
        flops: of a pair of a query and a key, for each feature of each head.
    """
    if has_data(q):
        yield from _tiles(settings, q.device)
        return
    largest: dict[tuple[bool, int], tuple[int, int, int]] = {}
    """By whether keys are gathered, and number of queries: most keys, then most before it; place."""
    before = 0
    for i, tile in enumerate(_tiles(settings, q.device)):
        (n, m), gathered = tile.size, not isinstance(tile.keys, slice)
        largest[gathered, n] = max((m, before, i), largest.get((gathered, n), (0, 0, 0)))
        before = n * m
    places = {i + near for _, _, i in largest.values() for near in (-1, 0, 1)}
    for i, tile in enumerate(_tiles(settings, q.device)):
        if i in places:
            yield tile
        else:
            work.did(flops * q.shape[1] * q.shape[2] * math.prod(tile.size))


def _tiles(settings: Settings, device: torch.device) -> Iterator[_Tile]:
    segments, window = settings.segments, settings.window
    for index, (start, length) in enumerate(zip(segments.starts, segments.lengths, strict=True)):
        depth = segments.offsets[index]
        path: Tensor | None = None
        if segments.parents[index] is not None:
            path_segments = [*reversed(list(segments.ancestors(index))), index]
            spans = [
                torch.arange(segments.lengths[r], device=device) + segments.starts[r]
                for r in path_segments
            ]
            path = torch.cat(spans)  # rows of the keys by depth
        for first in range(0, length, TILE):
            n = min(TILE, length - first)
            top = depth + first
            low = 0 if window is None else max(0, top - window + 1)
            rows = slice(start + first, start + first + n)
            keys = slice(start + low, start + top + n) if path is None else path[low : top + n]
            yield _Tile(rows, keys, top - low)
