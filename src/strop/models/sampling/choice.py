"""The next token of each row, and its log-probability."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from strop.layers.decoding import draw
from strop.models.sampling.rows import Row

Choose = Callable[[Tensor, Sequence[Row]], tuple[list[int], list[float]]]
"""Takes logits [B, V] and their rows; returns tokens and their log-probabilities."""


def choose(logits: Tensor, rows: Sequence[Row]) -> tuple[list[int], list[float]]:
    """Return the next token of each row and its log-probability.

    A row's draw is a function of its logits, its settings and its generator, which gives one number
    a token.

    Args:
        logits: [B, V].
        rows: B.
    """
    logits = logits.float()
    run = draw.function() if logits.device.type == "cpu" else None
    if run is not None:
        return _drawn_at_once(run, logits.contiguous(), rows)
    plain = logits.argmax(-1).tolist() if any(_is_greedy(row) for row in rows) else [0] * len(rows)
    tokens = [
        token if _is_greedy(row) else _one(line, row)
        for token, line, row in zip(plain, logits, rows, strict=True)
    ]
    chosen = logits.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]
    return tokens, (chosen - logits.logsumexp(-1)).tolist()


def _drawn_at_once(
    run: Callable[..., None], logits: Tensor, rows: Sequence[Row]
) -> tuple[list[int], list[float]]:
    """Return what `choose` does, by one call of C++ for all rows."""
    (B, V), scores = logits.shape, logits
    changed = [i for i, row in enumerate(rows) if not _is_plain(row)]
    if changed:
        scores = logits.clone()
        for i in changed:
            scores[i] = _before_temperature(logits[i], rows[i])
    wishes = torch.tensor(
        [
            (s.temperature, s.top_k, s.top_p, s.min_p, _number(row) if s.temperature else 0.0)
            for row in rows
            for s in (row.settings,)
        ],
        dtype=torch.float64,
    )
    tokens, log_probs = torch.empty(B, dtype=torch.long), torch.empty(B)
    run(scores, logits, wishes, tokens, log_probs, B, V, torch.get_num_threads())
    return tokens.tolist(), log_probs.tolist()


def _number(row: Row) -> float:
    """Return a row's next number of [0, 1)."""
    return float(torch.rand((), generator=row.generator, dtype=torch.float64))


def _is_plain(row: Row) -> bool:
    """Return whether a row's scores are its logits, but for what depends on their size alone."""
    settings = row.settings
    return settings.repetition_penalty == 1 and len(row.ids) >= settings.min_new_tokens


def _is_greedy(row: Row) -> bool:
    return row.settings.temperature == 0 and _is_plain(row)


def _one(logits: Tensor, row: Row) -> int:
    """Return the next token of one row given its logits [V]."""
    scores = _scores(logits, row)
    if row.settings.temperature == 0:
        return int(scores.argmax())
    reach = scores.sub(scores.max()).double().exp().cumsum(0)
    return int(torch.searchsorted(reach, _number(row) * reach[-1], right=True))


def _before_temperature(logits: Tensor, row: Row) -> Tensor:
    """Return the logits [V] of a row with its repetition penalty and its least length."""
    settings = row.settings
    if settings.repetition_penalty != 1:
        seen = torch.tensor([*{*row.prompt, *row.ids}], device=logits.device)
        at = logits[seen]
        penalty = settings.repetition_penalty
        logits = logits.index_copy(0, seen, torch.where(at < 0, at * penalty, at / penalty))
    if len(row.ids) < settings.min_new_tokens:
        ends = torch.tensor([i for i in row.ends if i < len(logits)], device=logits.device)
        logits = logits.index_fill(0, ends.long(), -torch.inf)
    return logits


def _scores(logits: Tensor, row: Row) -> Tensor:
    """Return the logits [V] of which a row's token is drawn, minus infinity where none is."""
    settings, logits = row.settings, _before_temperature(logits, row)
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
