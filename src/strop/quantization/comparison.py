"""How far a model's predictions are from another's on the same text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from strop.metrics.divergence import kl_divergence, perplexity
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
    changed: Mapping[str, Sequence[Tensor]],
    tokens: Sequence[Tensor],
) -> dict[str, Comparison]:
    """Compare hidden rows behind the last block, through the same head.

    Args:
        logits: from hidden rows [N, D] to logits [N, V].
        original: [1, T, D] of each sequence.
        changed: the same of each changed model.
        tokens: [T] of each sequence.

    Returns:
        The comparison of each changed model, and of the original with itself as "original".
    """
    sums = {name: _Sums() for name in ("original", *changed)}
    for i, ids in enumerate(tokens):
        for start in range(0, len(ids), ROWS):
            end = min(start + ROWS, len(ids))
            targets = ids[start + 1 : end + 1]
            p = logits(original[i][0, start:end]).log_softmax(-1)
            sums["original"].add(p, p, targets)
            for name, rows in changed.items():
                q = logits(rows[i][0, start:end]).log_softmax(-1)
                sums[name].add(p, q, targets)
    return {name: of.means() for name, of in sums.items()}


@dataclass(slots=True)
class _Sums:
    kl: float = 0.0
    agreed: int = 0
    rows: int = 0
    loss: float = 0.0
    scored: int = 0

    def add(self, p: Tensor, q: Tensor, targets: Tensor) -> None:
        """Add log-probabilities [N, V] of both models, and the next tokens of the first rows."""
        self.kl += float(kl_divergence(p, q).double().sum())
        self.agreed += int((p.argmax(-1) == q.argmax(-1)).sum())
        self.rows += len(p)
        known = q[: len(targets)].gather(1, targets[:, None].to(q.device))
        self.loss -= float(known.double().sum())
        self.scored += len(targets)

    def means(self) -> Comparison:
        return Comparison(
            self.kl / self.rows, self.agreed / self.rows, perplexity(self.loss / self.scored)
        )
