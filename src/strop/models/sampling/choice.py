"""The next token of each row, and its log-probability."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from strop.models.sampling.rows import Row

Choose = Callable[[Tensor, Sequence[Row]], tuple[list[int], list[float]]]
"""Takes logits [B, V] and their rows; returns tokens and their log-probabilities."""


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
    scores = _scores(logits, row)
    if row.settings.temperature == 0:
        return int(scores.argmax())
    reach = scores.sub(scores.max()).double().exp().cumsum(0)
    number = torch.rand((), generator=row.generator, dtype=torch.float64).to(reach.device)
    return int(torch.searchsorted(reach, number * reach[-1], right=True))


def _scores(logits: Tensor, row: Row) -> Tensor:
    """Return the logits [V] of which a row's token is drawn, minus infinity where none is."""
    settings = row.settings
    if settings.repetition_penalty != 1:
        seen = torch.tensor([*{*row.prompt, *row.ids}], device=logits.device)
        at = logits[seen]
        penalty = settings.repetition_penalty
        logits = logits.index_copy(0, seen, torch.where(at < 0, at * penalty, at / penalty))
    if len(row.ids) < settings.min_new_tokens:
        ends = torch.tensor([i for i in row.ends if i < len(logits)], device=logits.device)
        logits = logits.index_fill(0, ends.long(), -torch.inf)
    if settings.temperature not in (0, 1):
        logits = logits / settings.temperature
    if 0 < settings.top_k < len(logits):
        least = logits.topk(settings.top_k).values[-1]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if settings.top_p < 1:
        ordered, order = logits.sort()
        outside = order[ordered.softmax(0).cumsum(0) <= 1 - settings.top_p]
        logits = logits.index_fill(0, outside[outside != order[-1]], -torch.inf)
    if settings.min_p > 0:
        shares = logits.softmax(0)
        logits = logits.masked_fill(shares < settings.min_p * shares.max(), -torch.inf)
    return logits


def choose_as_transformers(count: int) -> Choose:
    """Return a `choose` that draws what transformers' `generate` draws for `count` rows.

    Each call draws for all of them at once from PyTorch's own generator, for those that have
    finished too.
    """

    def chosen(logits: Tensor, rows: Sequence[Row]) -> tuple[list[int], list[float]]:
        if rows[0].settings.temperature == 0:
            return choose(logits, rows)
        scores = torch.stack([_scores(line, row) for line, row in zip(logits, rows, strict=True)])
        shares = torch.ones(count, logits.shape[1], device=logits.device)
        places = [row.index for row in rows]
        shares[places] = scores.float().softmax(-1)
        drawn = torch.multinomial(shares, num_samples=1)[places]
        chosen_logits = logits.float().gather(1, drawn)[:, 0]
        log_probs = chosen_logits - logits.float().logsumexp(-1)
        return drawn[:, 0].tolist(), log_probs.tolist()

    return chosen
