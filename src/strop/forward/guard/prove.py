"""Proof that the compact way computes a model's own numbers before it is used, or another way.

Where a model is of a known family, its families' tests are the proof. Any other is tried once per
architecture, configuration, version and setting, on a small batch made of the first one's tokens: rows
one by one through the model's own forward are the truth, and how much that varies by rounding is the
measure. First of all no row may have a derivative by another's tokens.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from strop.core.dataless import has_data
from strop.core.tokens import IGNORE_INDEX, context_length
from strop.forward.compaction import CompactBatch, compact_batch
from strop.forward.decoder.backbone import Backbone
from strop.forward.decoder.blocks import all_known
from strop.forward.guard import ways
from strop.forward.guard.leaks import leak
from strop.forward.guard.probe import Batch, make_probe
from strop.forward.guard.rounding import Numbers, beyond_rounding, perturbed
from strop.forward.guard.ways import COMPACT, Way

log = logging.getLogger("strop")
LogProbs = Callable[[CompactBatch, Way], Tensor]
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors of code that meets shapes or arguments it was not written for."""
DRAWS = 2


@dataclass(slots=True)
class Guard:
    """Guard of a model: the way in which it computes batches of a kind."""

    model: Any
    backbone: Backbone
    log_probs: LogProbs
    """Returns the log-probabilities [M] of a compact batch, computed in a way."""
    plain: Callable[[Batch], Tensor]
    """Returns the log-probabilities [B, T - 1] of the forward that was bound before."""
    settings: dict[str, Any]
    """Settings of the caller that the proof depends on."""
    proven: dict[Any, Way] = field(default_factory=dict)

    def way(self, batch: Batch) -> Way:
        """Return the way in which a batch like this is computed."""
        if all_known(self.model.base_model) or not has_data(next(self.model.parameters())):
            return COMPACT
        if any(isinstance(p, DTensor) for p in self.model.parameters()):
            # processes must call a sharded model equally often, and each has other rows
            return self._fallback("plain", "its weights are sharded over processes")
        settings = {
            **self.settings,
            "left": batch.padded_left(),
            "autocast": _autocast(batch.input_ids.device),
            "gradients": torch.is_grad_enabled(),
            "training": self.model.training,
            "longer_than": ways.exceeded(self.model.config, batch.longest()),
        }
        at = tuple(settings.values())
        if at not in self.proven:
            proven_for = ways.describe(self.model, settings)
            way = ways.recall(proven_for)
            if way is None:
                way = self._prove(batch)
                ways.store(proven_for, way)
            self.proven[at] = way
        return self.proven[at]

    def _prove(self, batch: Batch) -> Way:
        context = context_length(self.model.config)
        probe = make_probe(batch, context)
        device = batch.input_ids.device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices), _buffers_as_they_are(self.model):
            self.backbone.silent = True  # a part that is off may not be used at all
            try:
                return self._tried(probe)
            except FAILURES as e:
                _pass_on_if_memory(e)
                return self._fallback("plain", f"its rows cannot be computed alone ({_named(e)})")
            finally:
                self.backbone.silent = False

    def _tried(self, probe: Batch) -> Way:
        random = self._draws(probe)
        with _mode(self.model, False if random else None):
            why: str | None = None
            for over_padding in (False, True) if probe.padded_left() else (False,):
                alone = Way("rows", share=False, over_padding=over_padding)
                truth, varied = self._with_rounding(probe, alone)
                why = self._differs_from_plain(probe, truth, varied)
                if why is None:
                    break
            if why is not None:
                return self._fallback("plain", f"a row alone gives other numbers ({why})")
            way = replace(alone, name="compact", share=not random)
            try:
                why = self._leak(probe, way)
                if why is None:
                    why = beyond_rounding(self._numbers(probe, way), truth, varied)
                if why is None and random:
                    with torch.no_grad(), _mode(self.model, True):
                        self._numbers(probe, way)  # what it refuses, it refuses where it draws
            except FAILURES as e:
                _pass_on_if_memory(e)
                why = _named(e)
        return way if why is None else self._fallback("rows", why, alone)

    def _with_rounding(self, probe: Batch, way: Way) -> tuple[Numbers, list[Numbers]]:
        varied = []
        for seed in range(DRAWS):
            with perturbed(self.model, seed):
                varied.append(self._numbers(probe, way))
        return self._numbers(probe, way), varied

    def _fallback(self, name: str, why: str, way: Way = COMPACT) -> Way:
        kind = type(self.model).__name__
        if name == "rows":
            text = (
                f"{kind} does not suit concatenated rows ({why}); its rows run one by one "
                "through its own forward"
            )
            return replace(way, name="rows", reason=text)
        text = f"{kind} runs as it was written, each batch whole: {why}"
        return replace(way, name="plain", share=False, reason=text)

    def _draws(self, probe: Batch) -> bool:
        """Return whether the model draws random numbers when it runs as it is now."""
        before = _random_state(probe.input_ids.device)
        with torch.no_grad():
            self._numbers(probe, Way("rows", share=False))
        return not torch.equal(before, _random_state(probe.input_ids.device))

    def _numbers(self, probe: Batch, way: Way) -> Numbers:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        if not torch.is_grad_enabled():
            trained = []
        gradients: list[Tensor | None] = [None] * len(trained)
        mask = probe.labels[:, 1:] != IGNORE_INDEX
        slopes = torch.randn(mask.numel(), generator=torch.Generator().manual_seed(0))
        parts, slots = [], []
        for micro_batch in _micro_batches(probe, way):
            part = self.log_probs(micro_batch, way)
            parts.append(part.detach())
            slots.append(micro_batch.slots)
            if trained and part.requires_grad:
                slope = slopes.to(part)[micro_batch.slots]
                more = torch.autograd.grad(part, trained, slope, allow_unused=True)
                gradients = [_sum(a, b) for a, b in zip(gradients, more, strict=True)]
        flat = parts[0].new_zeros(mask.numel()).index_copy(0, torch.cat(slots), torch.cat(parts))
        return Numbers(flat[mask.flatten()], gradients)

    def _leak(self, probe: Batch, way: Way) -> str | None:
        if torch.is_inference_mode_enabled():
            return None  # nothing has derivatives there; the numbers alone decide
        width = probe.labels.shape[1] - 1
        return next(
            filter(None, (leak(self.backbone, b, width) for b in _micro_batches(probe, way))), None
        )

    def _differs_from_plain(
        self, probe: Batch, truth: Numbers, varied: list[Numbers]
    ) -> str | None:
        with torch.no_grad():
            plain = self.plain(probe)
        mask = probe.labels[:, 1:] != IGNORE_INDEX
        ours = Numbers(plain[mask].to(truth.log_probs.dtype), ())
        bare = [Numbers(v.log_probs, ()) for v in varied]
        return beyond_rounding(ours, Numbers(truth.log_probs, ()), bare)


def _micro_batches(probe: Batch, way: Way) -> list[CompactBatch]:
    positions = None
    if way.over_padding:
        positions = torch.arange(probe.input_ids.shape[1]).expand(probe.input_ids.shape)
    budget = 1 if way.name == "rows" else None  # a row at a time, or all of them
    micro_batches = compact_batch(
        probe.input_ids, probe.labels, probe.mask, positions, budget=budget, share=way.share
    )
    assert micro_batches is not None, "a probe has no holes"
    return micro_batches


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _named(e: Exception) -> str:
    first = str(e).strip().splitlines()[:1]
    return f"{type(e).__name__}: {first[0][:160]}" if first else type(e).__name__


def _pass_on_if_memory(e: Exception) -> None:
    if isinstance(e, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(e):
        raise e


def _autocast(device: torch.device) -> str | None:
    kind = device.type
    return str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else None


def _random_state(device: torch.device) -> Tensor:
    state = torch.get_rng_state()
    if device.type == "cuda":
        state = torch.cat([state, torch.cuda.get_rng_state(device)])
    return state


@contextlib.contextmanager
def _mode(model: nn.Module, training: bool | None) -> Iterator[None]:
    """Let every module be in training or in evaluation for a while; None leaves all as they are."""
    before = [(m, m.training) for m in model.modules()]
    for module, was in before:
        module.training = was if training is None else training
    try:
        yield
    finally:
        for module, was in before:
            module.training = was


@contextlib.contextmanager
def _buffers_as_they_are(model: nn.Module) -> Iterator[None]:
    before = [(b, b.clone()) for b in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, was in before:
                if buffer.shape == was.shape and not torch.equal(buffer, was):
                    buffer.copy_(was)
