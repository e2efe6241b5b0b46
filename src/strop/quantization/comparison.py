"""How far a model's predictions are from another's on the same text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from strop.quantization.calibration import ROWS


@dataclass(frozen=True, slots=True)
class Comparison:
    """A changed model beside the one it was made of, on held-out text."""

    kl: float
    """Mean KL divergence of the next token, from the original to the changed model, in nats."""
    top1: float
    """Share of tokens where both think the same next token the likeliest."""
    perplexity: float
    """Of the changed model."""


@torch.no_grad()
def compare(
    logits: Callable[[Tensor], Tensor],
    original: Sequence[Tensor],
    changed: Sequence[Tensor],
    tokens: Sequence[Tensor],
) -> Comparison:
    """Compare hidden rows behind the last block, through the same head.

    Args:
        logits: from hidden rows [N, D] to logits [N, V].
        original: [1, T, D] of each sequence.
        changed: [1, T, D] of each sequence.
        tokens: [T] of each sequence.
    """
    kl = agreed = loss = 0.0
    count = scored = 0
    for before, after, ids in zip(original, changed, tokens, strict=True):
        T = len(ids)
        for start in range(0, T, ROWS):
            end = min(start + ROWS, T)
            p = logits(before[0, start:end]).log_softmax(-1)
            q = logits(after[0, start:end]).log_softmax(-1)
            kl += float((p.exp() * (p - q)).sum(-1).double().sum())
            agreed += int((p.argmax(-1) == q.argmax(-1)).sum())
            targets = ids[start + 1 : end + 1].to(q.device)
            rows = torch.arange(len(targets), device=q.device)
            loss -= float(q[rows, targets].double().sum())
            count, scored = count + end - start, scored + len(targets)
    return Comparison(kl / count, agreed / count, float(torch.tensor(loss / scored).exp()))
