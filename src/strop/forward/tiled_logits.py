"""Scores from logits that the head itself computes, a tile of rows at a time.

Slower than `ops.linear_log_prob`, for what that lacks: the gradient of the entropy, statistics of all
logits, heads that only transformers' code can run.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from strop.forward.micro_batches import Scores
from strop.ops.linear_log_prob.cpu import TILE_BYTES
from strop.ops.linear_log_prob.tiled import tile_rows

Columns = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def score_in_tiles(
    logits_of: Callable[[Tensor], Tensor],
    hidden: Tensor,
    targets: Tensor,
    vocabulary: int,
    scale: float,
    softcap: float | None,
) -> Scores:
    """Return every field of `Scores` for the targets [M], differentiable in log_prob and entropy.

    One tile of logits is held at a time, in float32 or wider; backward computes it again.

    Args:
        logits_of: gives the logits [R, V] of hidden rows [R, D].
        hidden: [M, D]
        targets: [M]
        vocabulary: V.
        scale: factor on the logits, before the soft-cap.
        softcap: bound on the logits' size, or None.
    """

    def score(rows: Tensor, labels: Tensor) -> Columns:
        logits = logits_of(rows)
        z = logits.to(torch.promote_types(logits.dtype, torch.float32)) * scale
        if softcap is not None:
            z = torch.tanh(z / softcap) * softcap
        log_probs = z.log_softmax(-1)
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        with torch.no_grad():
            others = z.argmax(-1) == labels, (2 * log_probs).logsumexp(-1), z.mean(-1)
        return log_probs.gather(-1, labels[:, None])[:, 0], entropy, *others

    tile = tile_rows(vocabulary, hidden.shape[1], TILE_BYTES)
    parts: list[Columns] = []
    for rows, labels in zip(hidden.split(tile), targets.split(tile), strict=True):
        if torch.is_grad_enabled():
            parts.append(checkpoint(score, rows, labels, use_reentrant=False))
        else:
            parts.append(score(rows, labels))
    return Scores(*(torch.cat(column) for column in zip(*parts, strict=True)))
