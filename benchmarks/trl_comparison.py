"""Both ways of a micro-batch compared: TRL's own forward and strop's, on the same weights and inputs."""

import contextlib
import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

ROUNDING = 1e-4
"""Errors up to this count as rounding: of the gradient relative to its norm, else to max(1, |x|)."""
NOT_NUMBERS = ("accuracies", "accuracy")
"""Metrics that count which of two numbers is larger: where both are equal, rounding decides."""
NEVER = 1e-30
"""A rate of dropout above 0 that drops nothing: 1 less it is 1."""

STATE = (
    *("_metrics", "_total_train_tokens", "_logs"),
    *("entropy_coef", "_last_world_entropy", "_entropy_window_stats"),
)
"""What compute_loss of TRL's trainers adds up or adapts."""


def compare(
    trainer: Any, compacts: list[Any], call: Callable[[dict[str, Any]], Any], inputs: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return what compute_loss gives through strop, and its errors against TRL's own forward.

    Dropout draws other masks for rows without padding: both ways are compared while it drops nothing.
    """
    before, random = _state(trainer), torch.get_rng_state()
    dropouts = [m for m in trainer.model.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0]

    def both(inputs: dict[str, Any]) -> tuple[Any, Any, Any]:
        _restore(trainer, before, random)
        with _plain(compacts):
            theirs = _computed(trainer, call(dict(inputs)))
        _restore(trainer, before, random)
        answer = call(dict(inputs))
        return answer, _computed(trainer, answer), theirs

    with _dropping_nothing(dropouts):
        answer, ours, theirs = both(inputs)
    compared = _errors(ours, theirs)
    if beyond_rounding(compared):
        after, random_after = _state(trainer), torch.get_rng_state()
        with _in_float64(trainer), _dropping_nothing(dropouts):
            _, ours64, theirs64 = both({name: _cast(value) for name, value in inputs.items()})
        _restore(trainer, after, random_after)
        compared["float64"] = _errors(ours64, theirs64)
        compared["against_float64"] = {
            "strop": _errors(ours, theirs64),
            "trl": _errors(theirs, theirs64),
        }
    if dropouts:
        _restore(trainer, before, random)
        answer = call(dict(inputs))
    return answer, compared


@contextlib.contextmanager
def _dropping_nothing(dropouts: list[torch.nn.Dropout]) -> Iterator[None]:
    """Let dropout run as it does, with a rate too small to drop anything, for a while."""
    rates = [dropout.p for dropout in dropouts]
    for dropout in dropouts:
        dropout.p = NEVER
    try:
        yield
    finally:
        for dropout, rate in zip(dropouts, rates, strict=True):
            dropout.p = rate


@contextlib.contextmanager
def _plain(compacts: list[Any]) -> Iterator[None]:
    """Let models answer by TRL's own forward for a while."""
    bound = [vars(c.model)["forward"] for c in compacts]
    for compact in compacts:
        compact.model.forward = compact.previous
    try:
        yield
    finally:
        for compact, forward in zip(compacts, bound, strict=True):
            compact.model.forward = forward


def _state(trainer: Any) -> dict[str, Any]:
    """Return a copy of what compute_loss adds up beside the loss."""
    return {n: copy.deepcopy(vars(trainer)[n]) for n in STATE if n in vars(trainer)}


def _loss(answer: Any) -> torch.Tensor:
    loss: torch.Tensor = answer[0] if isinstance(answer, tuple) else answer
    return loss


def _restore(trainer: Any, state: dict[str, Any], random: torch.Tensor) -> None:
    """Put back what compute_loss adds up, and the random state."""
    for name, value in state.items():
        setattr(trainer, name, copy.deepcopy(value))
    torch.set_rng_state(random)


def _cast(value: Any) -> Any:
    floats = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.double() if floats else value


@contextlib.contextmanager
def _in_float64(trainer: Any) -> Iterator[None]:
    """Let the models of a trainer be of float64 for a while; 4-bit layers compute in float32.

    bitsandbytes unpacks weights to no wider type.
    """
    models = [m for m in (trainer.model, getattr(trainer, "ref_model", None)) if m is not None]
    quantized = [m for model in models for m in model.modules() if hasattr(m, "compute_dtype")]
    dtypes = [layer.compute_dtype for layer in quantized]
    tensors = [t for m in models for t in (*m.parameters(), *m.buffers()) if t.is_floating_point()]
    before = [t.data for t in tensors]
    for tensor in tensors:
        tensor.data = tensor.data.double()
    for layer in quantized:
        layer.compute_dtype = torch.float32
    try:
        yield
    finally:
        for layer, dtype in zip(quantized, dtypes, strict=True):
            layer.compute_dtype = dtype
        for tensor, data in zip(tensors, before, strict=True):
            tensor.data = data


def _computed(trainer: Any, answer: Any) -> tuple[float, list[torch.Tensor], dict[str, Any]]:
    """Return the loss, the gradients of what is trained and what was added up."""
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(_loss(answer), trained, retain_graph=True, allow_unused=True)
    used = [
        torch.zeros_like(p) if g is None else g.detach()
        for p, g in zip(trained, gradients, strict=True)
    ]
    return _loss(answer).item(), used, _state(trainer)


def errors_of(compared: dict[str, Any]) -> dict[str, float]:
    """Return the errors of a micro-batch by name, of loss, gradient and metrics."""
    metrics = {n: e for n, e in compared["metrics"].items() if not n.endswith(NOT_NUMBERS)}
    # The gradient of nothing is rounding alone: its norm says so.
    nothing = compared["norm"] <= 1e-7
    gradient = 0.0 if nothing else compared["gradient"]
    return {"loss": compared["loss"], "gradient": gradient, **metrics}


def beyond_rounding(compared: dict[str, Any]) -> bool:
    """Say whether loss, gradient or a metric of a micro-batch differs by more than rounding."""
    return not all(error <= ROUNDING for error in errors_of(compared).values())


def _errors(ours: Any, theirs: Any) -> dict[str, Any]:
    """Return the errors of loss and metrics relative to max(1, |x|), of the gradient to its norm."""
    (loss, gradients, state), (plain_loss, plain_gradients, plain_state) = ours, theirs
    pairs = [(a.double(), b.double()) for a, b in zip(gradients, plain_gradients, strict=True)]
    apart = sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5
    norm, plain_norm = (
        sum(float(g.square().sum()) for g in side) ** 0.5 for side in zip(*pairs, strict=True)
    )
    overflow = math.isnan(norm) and math.isnan(plain_norm)
    metrics: dict[str, float] = {}
    for mode, names in plain_state.get("_metrics", {}).items():
        for name, values in names.items():
            for a, b in zip(state["_metrics"][mode][name], values, strict=True):
                if isinstance(b, int | float) and a != b:
                    metrics[name] = max(metrics.get(name, 0.0), _relative(a, b))
    return {
        "loss": _relative(loss, plain_loss),
        "gradient": 0.0 if overflow else apart / max(plain_norm, 1e-12),
        "norm": plain_norm,
        "metrics": metrics,
    }


def _relative(value: float, plain: float) -> float:
    """Return the error relative to max(1, |x|); none where 16-bit weights overflowed both ways."""
    overflow = math.isnan(value) and math.isnan(plain)
    return 0.0 if overflow else abs(value - plain) / max(1.0, abs(plain))


def lines(record: Path) -> dict[str, dict[str, Any]]:
    """Return each test's line of a record; the last counts where a test ran again."""
    if not record.exists():
        return {}
    texts = record.read_text(encoding="utf-8").splitlines()
    return {line["test"]: line for line in map(json.loads, texts)}
