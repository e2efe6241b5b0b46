"""The log-probabilities of given answers under a model."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from strop.core.progress import Progress, silent
from strop.core.tokens import IGNORE_INDEX
from strop.forward.compact import install

PADDED_TOKENS = 2**16
"""Token ids handed to the model at once, padding included; progress is told after each part."""
Labelled = tuple[Sequence[int], Sequence[int]]
"""Token ids and labels of equal length, -100 where nothing is asked."""


class TokenScores(NamedTuple):
    """Scores of the labelled tokens of one example, in order."""

    log_probs: Tensor
    """[n] float32 or wider."""
    is_top1: Tensor
    """[n] bool, whether each is the likeliest token of all (of equals, the first)."""


def score(
    model: nn.Module, examples: Sequence[Labelled], *, micro_batch_tokens: int = 4096
) -> list[Tensor]:
    """Return the log-probability of every labelled token of every example, sharing prefixes.

    Args:
        model: see `score_tokens`.
        examples: see `score_tokens`.
        micro_batch_tokens: see `score_tokens`.
    """
    scored = score_tokens(model, examples, micro_batch_tokens=micro_batch_tokens)
    return [tokens.log_probs for tokens in scored]


@torch.no_grad()
def score_tokens(
    model: nn.Module,
    examples: Sequence[Labelled],
    *,
    micro_batch_tokens: int = 4096,
    progress: Progress = silent,
) -> list[TokenScores]:
    """Return the scores of every labelled token of every example, sharing prefixes.

    Examples that begin alike are computed beside each other, whatever their order.

    Args:
        model: a causal language model of transformers, with or without PEFT's wrapper.
        examples: pairs of token ids and labels.
        micro_batch_tokens: largest number of tokens computed at once.
        progress: called with the number of examples that are scored.
    """
    order = sorted(range(len(examples)), key=lambda place: tuple(examples[place][0]))
    scored: dict[int, TokenScores] = {}
    while len(scored) < len(order):
        size, longest = 0, 0
        for place in order[len(scored) :]:
            longest = max(longest, len(examples[place][0]))
            if size and longest * (size + 1) > PADDED_TOKENS:
                break
            size += 1
        places = order[len(scored) : len(scored) + size]
        part = _scored(model, [examples[place] for place in places], micro_batch_tokens)
        scored |= zip(places, part, strict=True)
        progress("scoring", len(scored), len(order))
    return [scored[place] for place in range(len(order))]


def _scored(
    model: nn.Module, examples: Sequence[Labelled], micro_batch_tokens: int
) -> list[TokenScores]:
    compact, undo = install(model, micro_batch_tokens=micro_batch_tokens)
    try:
        T = max(len(ids) for ids, _ in examples)
        shape = (len(examples), T)
        ids, labels = torch.zeros(shape, dtype=torch.int64), torch.full(shape, IGNORE_INDEX)
        mask = torch.zeros(shape, dtype=torch.int64)
        for b, (tokens, targets) in enumerate(examples):
            ids[b, : len(tokens)], mask[b, : len(tokens)] = torch.tensor(tokens), 1
            labels[b, : len(tokens)] = torch.tensor(targets)
        device = next(model.parameters()).device
        batch = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        output = compact(True, labels.to(device), batch)
    finally:
        undo()
    rows = zip(output.log_probs, output.is_top1, output.label_mask, strict=True)
    return [TokenScores(row[mask], top1[mask]) for row, top1, mask in rows]
