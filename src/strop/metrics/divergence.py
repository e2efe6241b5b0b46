"""Compares two models' next-token distributions and answers."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FAR = 5.0
"""Nats behind the likeliest token from which none is looked at: no answer may depart so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement of an exported model's next-token distributions with the trained model's."""

    tokens: int
    """Positions compared."""
    kl: float
    """Mean of sum_v p(v) log(p(v) / q(v)), p the trained model's, q the exported one's; nats."""
    kl_99: float
    """99 % of the positions have less."""
    top1: float
    """Share of positions where both find the same token likeliest."""
    flips: list[float]
    """At each of the others, how many nats likelier the trained model finds its own token than the
    exported one's; the largest first."""
    perplexity: float
    """Perplexity of the texts under the exported model."""
    trained_perplexity: float
    """Perplexity of the texts under the trained model."""


def agreement(
    texts: Sequence[Sequence[int]],
    context_starts: Sequence[int],
    log_probs: Tensor,
    logits: Callable[[Sequence[int]], Tensor],
) -> Agreement:
    """Compare an exported model with the trained one on texts.

    Args:
        texts: token ids; each has two tokens or more.
        context_starts: where in each text comparing begins.
        log_probs: [N, V] of the trained model from there on, after each token but the last.
        logits: the exported model's scores after each token of a text: [T, V].
    """
    divergence: list[Tensor] = []
    margins: list[Tensor] = []
    same: list[bool] = []
    wrong = trained = 0.0
    start = 0
    for ids, first in zip(texts, context_starts, strict=True):
        p = log_probs[start : start + len(ids) - 1 - first]
        start += len(p)
        scores = logits(ids)[first:-1, : p.shape[1]].float()
        q = torch.log_softmax(scores, -1)
        divergence.append(kl_divergence(p, q))
        margins.append(p.amax(-1) - p.gather(1, q.argmax(-1, keepdim=True))[:, 0])
        same += (p.argmax(-1) == q.argmax(-1)).tolist()
        following = torch.tensor(ids[first + 1 :])[:, None]
        wrong -= float(q.gather(1, following).double().sum())
        trained -= float(p.gather(1, following).double().sum())
    each = torch.cat(divergence).double()
    others = torch.cat(margins)[~torch.tensor(same)].tolist()
    return Agreement(
        tokens=len(each),
        kl=float(each.mean()),
        kl_99=float(each.quantile(0.99)),
        top1=sum(same) / len(same),
        flips=sorted(others, reverse=True),
        perplexity=perplexity(wrong / len(each)),
        trained_perplexity=perplexity(trained / len(each)),
    )


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return sum_v p(v) log(p(v) / q(v)) at each position, in nats: [N].

    Args:
        p: [N, V] log-probabilities.
        q: [N, V] those of the other model.
    """
    return (p.exp() * (p - q)).nan_to_num(posinf=math.inf).sum(-1)  # 0 log 0 is 0


def perplexity(loss: float) -> float:
    """Return exp(loss), at most e^700; infinity where the loss is no finite number."""
    return math.exp(min(loss, 700.0)) if math.isfinite(loss) else math.inf


@dataclass(frozen=True, slots=True, eq=False)
class Considered(Mapping[str, float]):
    """Log-probabilities by token id, as two tensors: a flat distribution has every token near."""

    ids: Tensor
    """[N] int32"""
    log_probs: Tensor
    """[N] float32"""

    def __getitem__(self, token: str) -> float:
        """Return the log-probability of a token that is considered."""
        matches = self.log_probs[self.ids == int(token)]
        if not len(matches):
            raise KeyError(token)
        return float(matches[0])

    def __iter__(self) -> Iterator[str]:
        """Yield the tokens."""
        return map(str, self.ids.tolist())

    def __len__(self) -> int:
        """Return how many tokens are considered."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of a model that always takes the likeliest token."""

    ids: list[int]
    """With the end token, if the answer ended."""
    ended: bool
    steps: list[Considered]
    """Log-probabilities of the tokens that are considered at each step, by token id."""

    def gap(self, other: Sequence[int]) -> float:
        """Return how much likelier this model finds its own token where `other` first departs.

        0 where the answers agree as far as both go; infinite where this model would not even
        consider the other's token.
        """
        for step, (ours, theirs) in zip(
            self.steps, zip(self.ids, other, strict=False), strict=False
        ):
            if ours != theirs:
                return step[str(ours)] - step.get(str(theirs), -math.inf)
        return 0.0


def considered(scores: Tensor) -> Considered:
    """Return the log-probabilities of the tokens of logits [V] that are not far behind the first.

    In a flat distribution thousands of tokens are near; which of them a departure takes must be seen.
    """
    log_probs = torch.log_softmax(scores.float(), -1)
    near = (log_probs >= log_probs.amax() - FAR).nonzero()[:, 0]
    return Considered(near.int(), log_probs[near])
