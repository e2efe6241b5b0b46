"""Variation of a model's numbers by rounding alone: Monte Carlo arithmetic (Parker 1997).

Every module's result is multiplied by 1 + eps u, with u uniform in [-1, 1] and eps the distance from 1
to the next number of its dtype. What such runs differ by is what a run in another order may differ by.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

FLOOR = 5e-7
"""Additional error allowed, as a share of a tensor's size, as in `strop.testing.check_error`."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers of one forward and backward of a batch."""

    log_probs: Tensor
    """[M]"""
    gradients: Sequence[Tensor | None]
    """One for each trained tensor."""


@contextlib.contextmanager
def perturbed(model: nn.Module, seed: int) -> Iterator[None]:
    """Let every module round its result at random."""
    rngs: dict[torch.device, torch.Generator] = {}

    def varied(t: Any) -> Any:
        if isinstance(t, tuple):
            return tuple(varied(one) for one in t)
        if not isinstance(t, Tensor) or not t.is_floating_point():
            return t
        if t.device not in rngs:
            rngs[t.device] = torch.Generator(t.device).manual_seed(seed)
        share = torch.rand(t.shape, generator=rngs[t.device], device=t.device)
        wide = torch.promote_types(t.dtype, torch.float32)
        return (t.to(wide) * (1 + torch.finfo(t.dtype).eps * (2 * share - 1))).to(t.dtype)

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        return varied(output)

    handles = [m.register_forward_hook(hook) for m in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def beyond_rounding(ours: Numbers, truth: Numbers, varied: Sequence[Numbers]) -> str | None:
    """Return what differs by more than rounding explains, or None.

    As `strop.testing.check_error` has it: 1.5 times the rms of the variation, twice its largest, of
    log-probabilities; 1.5 times the norm of it, of each tensor's gradient and of all as one vector.

    Args:
        ours: numbers to judge.
        truth: numbers of the plain way.
        varied: numbers of the plain way, rounded at random; the largest variation counts.
    """
    error = (ours.log_probs - truth.log_probs).double()
    noise = [(v.log_probs - truth.log_probs).double() for v in varied]
    size = truth.log_probs.double()
    allowed = 1.5 * max(_rms(n) for n in noise) + FLOOR * _rms(size)
    if not _rms(error) <= allowed:
        return _text("log-probabilities", _rms(error), allowed)
    largest = 2 * max(_max(n) for n in noise) + FLOOR * _max(size)
    if not _max(error) <= largest:
        return _text("a log-probability", _max(error), largest)
    return _gradients(ours, truth, varied)


def _gradients(ours: Numbers, truth: Numbers, varied: Sequence[Numbers]) -> str | None:
    sizes = [_norm(t, None) for t in truth.gradients]
    errors = [_norm(a, b) for a, b in zip(ours.gradients, truth.gradients, strict=True)]
    draws = [
        [_norm(a, b) for a, b in zip(v.gradients, truth.gradients, strict=True)] for v in varied
    ]
    whole = math.hypot(*sizes)
    share = max((math.hypot(*draw) for draw in draws), default=0.0) / max(whole, 1e-300)
    allowed = (1.5 * share + FLOOR) * whole
    if not math.hypot(*errors) <= allowed:
        scale = max(whole, 1e-300)
        return _text("gradients", math.hypot(*errors) / scale, allowed / scale)
    for i, (error, size) in enumerate(zip(errors, sizes, strict=True)):
        bound = 1.5 * max((draw[i] for draw in draws), default=0.0) + FLOOR * whole
        if not error <= bound:
            scale = max(size, 1e-300)
            return _text(f"the gradient of trained tensor {i}", error / scale, bound / scale)
    return None


def _text(what: str, error: float, allowed: float) -> str:
    return f"{what} differ by {error:.1e}, and rounding explains {allowed:.1e}"


def _rms(t: Tensor) -> float:
    return float(t.square().mean().sqrt()) if t.numel() else 0.0


def _max(t: Tensor) -> float:
    return float(t.abs().max()) if t.numel() else 0.0


def _norm(a: Tensor | None, b: Tensor | None) -> float:
    """Return the norm of a - b, None standing for zero."""
    if a is None:
        return 0.0 if b is None else float(b.float().norm())
    return float((a if b is None else a - b).float().norm())
