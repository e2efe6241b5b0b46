"""Log-probabilities of a batch in micro-batches: the gradient of the whole, the memory of one.

Where the loss is linear in the log-probabilities, each micro-batch runs backward as soon as it ran forward
and the trainer's own backward only scales what was collected. Otherwise one runs forward without
a graph, and again with one when the gradient of its log-probabilities arrives (gradient cache,
Gao et al. 2021, arXiv:2101.06983).
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strop.core.dataless import has_data
from strop.core.errors import UnsupportedError
from strop.forward.compaction import CompactBatch
from strop.forward.gradient_noise import GradientNoise


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of each labelled token: [M] of a micro-batch, or one per slot of the batch."""

    log_prob: Tensor
    entropy: Tensor
    is_top1: Tensor
    log_sum_sq_probs: Tensor | None = None
    mean_logits: Tensor | None = None
    router_logits: Tensor | None = None
    """[L, N, E] of every token of each layer with experts, micro-batches in their order."""

    def fields(self) -> tuple[Tensor | None, ...]:
        """Return the tensors in the order in which they are declared."""
        return (
            self.log_prob,
            self.entropy,
            self.is_top1,
            self.log_sum_sq_probs,
            self.mean_logits,
            self.router_logits,
        )


ScoreMicroBatch = Callable[[CompactBatch], Scores]


def score_micro_batches(
    score: ScoreMicroBatch,
    micro_batches: Sequence[CompactBatch],
    size: int,
    trained: Sequence[Tensor],
    *,
    linear_loss: bool,
    entropy_gradient: bool = False,
    noise: GradientNoise | None = None,
) -> Scores:
    """Return the scores of every micro-batch, spread over the batch; zero where there is no label.

    Args:
        score: computes one micro-batch; its log-probabilities carry a graph when gradients are on.
        micro_batches: the batch.
        size: number of slots, B * (T - 1).
        trained: tensors that need a gradient; they become inputs of the autograd graph.
        linear_loss: run each micro-batch backward at once.
        entropy_gradient: `score` returns an entropy with a graph, and the loss may use it.
        noise: takes the gradients of micro-batches that run backward at once.

    Returns:
        Tensors of `size` elements; `log_prob` is differentiable in `trained`, and so is `entropy`
        with `entropy_gradient`.
    """
    if not trained or not torch.is_grad_enabled():
        with torch.no_grad():
            return _spread(
                [score(micro_batch) for micro_batch in micro_batches], micro_batches, size, trained
            )
    if len(micro_batches) < 2:
        return _spread(
            [score(micro_batch) for micro_batch in micro_batches], micro_batches, size, trained
        )
    linear = linear_loss and not entropy_gradient
    plan = _Plan(score, micro_batches, size, linear, entropy_gradient, noise)
    return Scores(*_MicroBatches.apply(plan, *trained))


@dataclass(frozen=True, slots=True)
class _Plan:
    score: ScoreMicroBatch
    micro_batches: Sequence[CompactBatch]
    size: int
    linear_loss: bool
    entropy_gradient: bool
    noise: GradientNoise | None

    def differentiable(self, part: Scores) -> list[Tensor]:
        entropy = [part.entropy] if self.entropy_gradient else []
        return [
            part.log_prob,
            *entropy,
            *([] if part.router_logits is None else [part.router_logits]),
        ]

    def slopes(self, upstream: Sequence[Tensor]) -> list[list[Tensor]]:
        """Return what each micro-batch's share of the gradients of `fields` is."""
        scores = upstream[: 2 if self.entropy_gradient else 1]
        shares = [[t.index_select(0, batch.slots) for t in scores] for batch in self.micro_batches]
        if (router := upstream[-1]) is not None:
            pieces = router.split([len(batch.tokens) for batch in self.micro_batches], 1)
            shares = [[*share, piece] for share, piece in zip(shares, pieces, strict=True)]
        return shares


class _MicroBatches(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, *trained: Tensor) -> tuple[Tensor | None, ...]:
        ctx.plan, ctx.trained, ctx.collected, ctx.random = plan, trained, None, []
        kind = plan.micro_batches[0].tokens.device.type
        ctx.precision = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        if plan.linear_loss:
            ctx.collected = [None] * len(trained)
        parts = []
        for micro_batch in plan.micro_batches:
            ctx.random.append(_random_state(micro_batch.tokens.device))
            with torch.set_grad_enabled(plan.linear_loss):
                part = plan.score(micro_batch)
            if ctx.collected is not None:
                ones = [torch.ones_like(part.log_prob)]
                with torch.autocast(kind, enabled=False):  # a trainer's backward runs outside too
                    _collect([part.log_prob], ones, trained, ctx.collected, plan.noise)
            parts.append(Scores(*(None if t is None else t.detach() for t in part.fields())))  # type: ignore[arg-type]
        if plan.noise is not None and ctx.collected is not None:
            plan.noise.finish([len(part.log_prob) for part in parts], ctx.collected)
        scores = _spread(parts, plan.micro_batches, plan.size, trained)
        graph = plan.differentiable(scores)
        others = [t for t in scores.fields() if t is not None and all(t is not g for g in graph)]
        ctx.mark_non_differentiable(*others)
        return scores.fields()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        slopes = plan.slopes(upstream)
        first = slopes[0][0][0]
        if ctx.collected is not None and _all_are(first, slopes):
            collected, ctx.collected = ctx.collected, None  # gradients of whole weights are large
            return None, *_scaled(collected, first)
        gradients: list[Tensor | None] = [None] * len(ctx.trained)
        for micro_batch, slope, state in zip(plan.micro_batches, slopes, ctx.random, strict=True):
            again = _drawing_again(state, micro_batch.tokens.device)
            with torch.enable_grad(), torch.autocast(*ctx.precision), again:
                part = plan.score(micro_batch)
            _collect(plan.differentiable(part), slope, ctx.trained, gradients)
        return None, *gradients


class WithoutGradient(torch.autograd.Function):
    """Identity of the entropy; a loss that differentiates it fails rather than lose its gradient."""

    @staticmethod
    def forward(ctx: Any, entropy: Tensor, beside: Tensor) -> Tensor:
        """Return the entropy."""
        return entropy.view_as(entropy)

    @staticmethod
    def backward(ctx: Any, *slope: Tensor) -> tuple[None, None]:
        """Raise UnsupportedError if the loss differentiates the entropy."""
        if slope[0].any():
            raise UnsupportedError(
                "this loss differentiates the entropy, which strop computes without a gradient here; "
                "train it without strop.accelerate (TRL's own entropy_coef is served)"
            )
        return None, None


def _all_are(first: Tensor, slopes: Sequence[Sequence[Tensor]]) -> bool:
    """Return whether the loss is linear: every log-probability counts as much as the first."""
    return not has_data(first) or all((s == first).all() for s, *_ in slopes)


def _scaled(gradients: list[Tensor | None], factor: Tensor) -> Iterator[Tensor | None]:
    """Yield each gradient times a number, in its own place, and let go of it."""
    for i, gradient in enumerate(gradients):
        gradients[i] = None
        yield None if gradient is None else gradient.mul_(factor.to(gradient.dtype))


def _random_state(device: torch.device) -> list[Tensor]:
    """Return the states of the random generators of the CPU and of `device`."""
    states = [torch.get_rng_state()]
    if device.type == "cuda" and torch.cuda.is_available():
        states.append(torch.cuda.get_rng_state(device))
    return states


@contextlib.contextmanager
def _drawing_again(state: list[Tensor], device: torch.device) -> Iterator[None]:
    """Draw the dropout of an earlier state, and leave the generators as they are now."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.set_rng_state(state[0])
        if device.type == "cuda":
            torch.cuda.set_rng_state(state[1], device)
        yield


def _collect(
    outputs: Sequence[Tensor],
    slopes: Sequence[Tensor],
    trained: Sequence[Tensor],
    into: list[Tensor | None],
    noise: GradientNoise | None = None,
) -> None:
    """Add the gradient of <slopes, outputs> to `into`, and show it to `noise`.

    A tensor without one stays None. Each is added as soon as it is there, so that those of whole
    weights do not stand twice.
    """
    hooks = [
        tensor.register_hook(functools.partial(_added, total, noise))
        for tensor, total in zip(trained, into, strict=True)
        if total is not None
    ]
    try:
        gradients = torch.autograd.grad(outputs, trained, slopes, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    for i, gradient in enumerate(gradients):
        if into[i] is None:
            into[i] = gradient
            if noise is not None and gradient is not None:
                noise.add(gradient)


def _added(total: Tensor, noise: GradientNoise | None, gradient: Tensor) -> Tensor:
    """Add a gradient to a total, and return something of its shape that takes no memory."""
    total += gradient
    if noise is not None:
        noise.add(gradient)
    return gradient.new_zeros(()).expand_as(gradient)


def _spread(
    parts: Sequence[Scores],
    micro_batches: Sequence[CompactBatch],
    size: int,
    trained: Sequence[Tensor],
) -> Scores:
    """Return the parts' results spread over the slots of the batch."""
    if not parts:
        device = trained[0].device if trained else torch.device("cpu")
        zero = torch.zeros(size, device=device)
        joined = zero + sum((t.flatten()[:0].sum() for t in trained), start=zero.new_zeros(()))
        return Scores(joined, zero, zero.bool(), zero, zero)
    slots = torch.cat([micro_batch.slots for micro_batch in micro_batches])

    def spread(values: Sequence[Tensor | None]) -> Tensor | None:
        present = [v for v in values if v is not None]
        if not present:
            return None
        flat = torch.cat(present)
        return flat.new_zeros(size).index_copy(0, slots, flat)

    columns = zip(*(part.fields()[:-1] for part in parts), strict=True)
    router = [part.router_logits for part in parts if part.router_logits is not None]
    fields = [*(spread(column) for column in columns), torch.cat(router, 1) if router else None]
    return Scores(*fields)  # type: ignore[arg-type]
