"""The next token of each row, and its log-probability."""

from collections.abc import Sequence

import torch
from torch import Tensor

from strop.models.sampling.rows import Row


def choose(logits: Tensor, rows: Sequence[Row]) -> tuple[list[int], list[float]]:
    """Return the next token of each row and its log-probability.

    A row's draw is a function of its logits and its settings generator, which gives one number a token.

    Args:
        logits: [B, V].
        rows: B.
    """
    logits = logits.float()
    plain = logits.argmax(-1).tolist() if any(_is_greedy(row) for row in rows) else [0] * len(rows)
    tokens = [
        token if _is_greedy(row) else _one(line, row)
        for token, line, row in zip(plain, logits, rows, strict=True)
    ]
    chosen = logits.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]
    return tokens, (chosen - logits.logsumexp(-1)).tolist()


def _is_greedy(row: Row) -> bool:
    settings = row.settings
    return (
        settings.temperature == 0
        and settings.repetition_penalty == 1
        and len(row.ids) >= settings.min_new_tokens
    )


def _one(logits: Tensor, row: Row) -> int:
    """Return the next token of one row given its logits [V]."""
    settings = row.settings
    if settings.repetition_penalty != 1:
        seen = torch.tensor([*{*row.prompt, *row.ids}], device=logits.device)
        at = logits[seen]
        at = torch.where(at < 0, at * settings.repetition_penalty, at / settings.repetition_penalty)
        logits = logits.index_copy(0, seen, at)
    if len(row.ids) < settings.min_new_tokens:
        ends = torch.tensor([i for i in row.ends if i < len(logits)], device=logits.device)
        logits = logits.index_fill(0, ends.long(), -torch.inf)
    if settings.temperature == 0:
        return int(logits.argmax())
    logits = logits / settings.temperature
    if 0 < settings.top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(settings.top_k).values[-1], -torch.inf)
    weights = logits.sub(logits.max()).double().exp()
    if settings.top_p < 1:
        weights = _within(weights, settings.top_p)
    if settings.min_p > 0:
        weights = weights.masked_fill(weights < settings.min_p * weights.max(), 0.0)
    reach = weights.cumsum(0)
    number = torch.rand((), generator=row.generator, dtype=torch.float64).to(reach.device)
    place = torch.searchsorted(reach, number * reach[-1], right=True)
    return int(place.clamp(max=int(weights.nonzero()[-1])))


def _within(weights: Tensor, share: float) -> Tensor:
    """Return the weights [V] with those zero that lie below the likeliest with this share of all."""
    ordered, order = weights.sort(descending=True)
    above = ordered.cumsum(0) - ordered  # of the likelier ones
    outside = order[above >= share * ordered.sum()]
    return weights.index_fill(0, outside, 0.0)
