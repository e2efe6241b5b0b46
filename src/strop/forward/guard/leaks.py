"""Derivatives of a row by the tokens of other rows, which must be zero in any dtype.

Rounding hides a small leak from a comparison of numbers, and more so in 16 bits. A row that nothing
reaches has derivatives of exactly 0 by the embeddings of every other row: no sum over them is formed.
"""

import torch
from torch import Tensor

from strop.forward.compaction import CompactBatch
from strop.forward.decoder.backbone import Backbone


def leak(backbone: Backbone, batch: CompactBatch, width: int) -> str | None:
    """Return which derivatives by tokens of other rows are not zero, or None if all are.

    Args:
        backbone: run once forward and once backward for each row.
        batch: concatenated rows; a prefix they share belongs to each of them.
        width: T - 1, labels of a row of the padded batch, which `batch.slots` counts.
    """
    rows = batch.slots // width
    for row in rows.unique().tolist():
        at = (rows == row).nonzero()[:, 0]
        with torch.enable_grad():
            embedded = backbone.embed(batch).detach().requires_grad_()
            copied = embedded.clone()  # some models scale it in place
            hidden = backbone(batch, embedded=copied).index_select(0, at)
            generator = torch.Generator().manual_seed(row)
            slopes = torch.randn(hidden.shape, generator=generator).to(hidden)
            (slope,) = torch.autograd.grad(hidden, embedded, slopes)
        size = slope.float().norm(dim=-1)
        path = _path(batch, batch.rows[at])
        if not size[path].any():
            return "a row does not depend on its own tokens"
        others = ~torch.zeros_like(size, dtype=torch.bool).index_fill(0, path, True)
        if (size[others] != 0).any():  # also where it is no number
            share = float(size[others].max() / size.max())
            return (
                f"a row depends on tokens of another, by {share:.1e} of what it depends on its own"
            )
    return None


def _path(batch: CompactBatch, predicting: Tensor) -> Tensor:
    """Return the tokens of the segment of the last of `predicting`, and of its ancestors."""
    segments, last = batch.segments, int(predicting.max())
    segment = max(i for i, start in enumerate(segments.starts) if start <= last)
    path = [*segments.ancestors(segment), segment]
    spans = [
        torch.arange(segments.starts[i], segments.starts[i] + segments.lengths[i]) for i in path
    ]
    return torch.cat(spans).to(predicting.device)
