"""Compact forward of a TRL trainer: the tokens that its loss needs, and no others.

TRL calls its model for per-token log-probabilities (`fused_lm_head=True`) and computes its loss from
them. `install` re-binds `forward` of the base-model instance to serve that call from the compacted
batch; every other call goes where it went before.
"""

import contextlib
import functools
import inspect
import logging
import types
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from trl.trainer.utils import FusedCausalLMOutput

from strop.core.errors import ConfigError
from strop.core.tokens import IGNORE_INDEX
from strop.forward.base_model import base_model
from strop.forward.checks import check_batch, check_finite
from strop.forward.compaction import CompactBatch, compact_batch
from strop.forward.decoder.backbone import Backbone, attach
from strop.forward.decoder.modified import hooks_of_a_call
from strop.forward.fused_head import FusedHeadOptions
from strop.forward.gradient_noise import GradientNoise
from strop.forward.guard import positions
from strop.forward.guard.by_logits import log_probs_by_logits
from strop.forward.guard.probe import Batch
from strop.forward.guard.prove import Guard
from strop.forward.guard.ways import COMPACT, Way
from strop.forward.head import Head
from strop.forward.micro_batches import Scores, WithoutGradient, score_micro_batches
from strop.forward.obstacles import obstacle, routes
from strop.forward.router_loss import coefficient, router_loss

log = logging.getLogger("strop")
Undo = Callable[[], None]


@dataclass(slots=True)
class CompactForward:
    """Server of TRL's call for log-probabilities; counts its calls so that a trainer can check."""

    model: Any
    """Base model, without PEFT's wrapper."""
    previous: Callable[..., Any]
    """Forward that was bound before, for every call that this one does not serve."""
    backbone: Backbone
    micro_batch_tokens: int | None
    linear_loss: bool
    """The loss is linear in the log-probabilities, so micro-batches may run backward at once."""
    options: FusedHeadOptions = field(default_factory=FusedHeadOptions)
    has_fused_head: bool = True
    """`previous` serves TRL's call; else it returns logits."""
    bound: Callable[..., Any] | None = None
    """Function bound to the model, which calls this object."""
    calls: int = 0
    reported: set[str] = field(default_factory=set)
    noise: GradientNoise | None = None
    guard: Guard = field(init=False)

    def __post_init__(self) -> None:
        """Create the guard that chooses the way of each batch."""
        settings = {
            "activations": self.backbone.activations,
            "fuse": self.backbone.fuse,
            "float32": self.options.float32,
            "fused": self.has_fused_head,
        }
        self.guard = Guard(self.model, self.backbone, self._log_probs, self._plain, settings)

    def __call__(self, fused_lm_head: bool, labels: Tensor | None, inputs: dict[str, Any]) -> Any:
        """Serve the call, or pass it on."""
        if not fused_lm_head:
            extra = {} if labels is None else {"labels": labels}
            return self.previous(**inputs, **extra)
        self.calls += 1
        prepared = self.prepared(labels, inputs)
        if isinstance(prepared, str) or labels is None:
            return self._pass_on(str(prepared), labels, inputs)
        items, routed = inputs.get("num_items_in_batch"), routes(self.model, inputs)
        return self.answer(prepared[0], labels, items, prepared[1], routed=routed)

    def prepared(
        self, labels: Tensor | None, inputs: dict[str, Any]
    ) -> tuple[list[CompactBatch], Way] | str:
        """Return the tokens to compute and the way, or why a batch has no compact form."""
        why = obstacle(self.model, labels, inputs)
        if why is None:
            assert labels is not None
            way = self.way(labels, inputs)
            if way.name == "plain":
                return way.reason
            if way.reason:
                self.report(way.reason, about=way.name)
            micro_batches = self.micro_batches(labels, inputs, way)
            if micro_batches is None:
                why = "its padding has holes, or a label follows a padding token"
            else:
                ids, places = inputs["input_ids"], inputs.get("position_ids")
                why = positions.switched(self.model, ids, places, micro_batches, way)
                if why is None:
                    return micro_batches, way
        return f"a batch ran without strop's compact forward: {why}"

    def is_bound(self) -> bool:
        """Return whether the model's forward still leads here, through whatever wraps it."""
        function = getattr(self.model.forward, "__func__", self.model.forward)
        while function is not None and function is not self.bound:
            function = getattr(function, "__wrapped__", None)
        return function is not None

    def of_copy(self, model: Any) -> Self:
        """Return the compact forward of a deep copy of the model, with the copy's weights."""
        function = getattr(self.previous, "__func__", type(model).forward)
        previous = types.MethodType(function, model)
        backbone = attach(model, activations=self.backbone.activations, fuse=self.backbone.fuse)
        return replace(self, model=model, previous=previous, backbone=backbone)

    def way(self, labels: Tensor, inputs: dict[str, Any]) -> Way:
        """Return the way in which this batch is computed."""
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        places = inputs.get("position_ids")
        check_batch(self.model, ids, labels, mask, places)
        return self.guard.way(Batch(ids, labels, mask, places))

    def micro_batches(
        self, labels: Tensor, inputs: dict[str, Any], way: Way = COMPACT
    ) -> list[CompactBatch] | None:
        """Return the tokens to compute, or None where the batch has no compact form."""
        ids, places = inputs["input_ids"], inputs.get("position_ids")
        if places is None and way.over_padding:
            places = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
        share = way.share and self.backbone.shares_prefixes()
        if not share and way.name == "compact":
            self.report("dropout draws for each row, so shared prefixes are computed per row")
        return compact_batch(
            ids,
            labels,
            inputs.get("attention_mask"),
            places,
            budget=self.micro_batch_tokens,
            share=share,
            whole=routes(self.model, inputs),
        )

    def answer(
        self,
        micro_batches: list[CompactBatch],
        labels: Tensor,
        items: Any,
        way: Way = COMPACT,
        *,
        routed: bool = False,
    ) -> Any:
        """Return TRL's output for the micro-batches of a batch, with its routers' loss if `routed`."""
        mask = labels[:, 1:] != IGNORE_INDEX
        trained = [p for p in self.model.parameters() if p.requires_grad]
        scores = score_micro_batches(
            functools.partial(self._score, way=way, routed=routed),
            micro_batches,
            mask.numel(),
            trained,
            linear_loss=self.linear_loss and not routed,
            entropy_gradient=self.options.entropy_gradient,
            noise=self.noise,
        )
        check_finite(self.model, scores.log_prob)
        log_probs, entropy = scores.log_prob, scores.entropy
        if log_probs.requires_grad and not self.options.entropy_gradient:
            entropy = WithoutGradient.apply(entropy, log_probs)
        fields = {
            "entropy": entropy,
            "is_top1": scores.is_top1,
            "log_sum_sq_probs": scores.log_sum_sq_probs,
            "mean_logits": scores.mean_logits,
        }
        outputs = {
            name: None
            if tensor is None or name not in self.options.outputs
            else tensor.view(mask.shape)
            for name, tensor in fields.items()
        }
        count = mask.sum().clamp(min=1) if items is None else items
        loss, routing = -log_probs.sum() / count, {}
        if routed:
            copies = torch.cat([b.copies for b in micro_batches if b.copies is not None])
            routing["aux_loss"] = router_loss(self.model, scores.router_logits, copies)
            loss = loss + coefficient(self.model) * routing["aux_loss"]
        return FusedCausalLMOutput(
            loss=loss,
            **routing,
            log_probs=log_probs.view(mask.shape),
            label_mask=mask,
            **outputs,
        )

    def _score(self, batch: CompactBatch, way: Way, *, routed: bool = False) -> Scores:
        """Return the scores of a micro-batch, with the logits of its routers if it is `routed`."""
        logits: list[Tensor] | None = [] if routed else None
        hidden = self.backbone(batch, one_by_one=way.name == "rows", router_logits=logits)
        scores = Head.of(self.model).score(hidden, batch.targets, self.options)
        return replace(scores, router_logits=torch.stack(logits)) if logits else scores

    def _log_probs(self, batch: CompactBatch, way: Way) -> Tensor:
        return self._score(batch, way).log_prob

    def _pass_on(self, why: str, labels: Tensor | None, inputs: dict[str, Any]) -> Any:
        """Serve the call by `previous`, with fewer activations kept where `activations` says so."""
        lean = self.backbone.activations in ("checkpoint", "offload")
        if lean and hooks_of_a_call(self.model):
            lean, why = False, f"{why}; it cannot be computed again either, so all of it is kept"
        self.report(why)
        with self.backbone.checkpointing() if lean else contextlib.nullcontext():
            if self.has_fused_head or labels is None:
                return self.previous(**inputs, labels=labels, fused_lm_head=True)
            batch = Batch(inputs["input_ids"], labels, inputs.get("attention_mask"))
            return FusedCausalLMOutput(
                log_probs=self._plain(batch), label_mask=labels[:, 1:] != IGNORE_INDEX
            )

    def _plain(self, batch: Batch) -> Tensor:
        """Return the log-probabilities [B, T - 1] of `previous`."""
        ids, labels, mask = batch.input_ids, batch.labels, batch.mask
        if self.has_fused_head:
            output = self.previous(
                input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True
            )
            log_probs: Tensor = output.log_probs
            return log_probs
        return log_probs_by_logits(self.previous, batch)

    def report(self, text: str, about: str | None = None) -> None:
        """Log a text once, or one text about a topic."""
        if (about or text) not in self.reported:
            self.reported |= {about or text, text}
            log.warning(text)


def install(
    model: nn.Module,
    *,
    activations: str = "auto",
    micro_batch_tokens: int | None = None,
    linear_loss: bool = False,
    entropy_gradient: bool = False,
    fuse: str = "auto",
) -> tuple[CompactForward, Undo]:
    """Bind the compact forward to `model` and return it with the function that removes it.

    Args:
        model: a causal language model of transformers, with or without PEFT's wrapper.
        activations: what is kept for backward: "keep", "checkpoint", "offload", or "auto".
        micro_batch_tokens: largest number of tokens computed at once; None means all.
        linear_loss: the loss is a constant times the sum of the log-probabilities (SFT).
        entropy_gradient: the loss differentiates the entropy; costs a slower head.
        fuse: run known blocks through strop's halves: "always", "never", or "auto": not in float64.

    Raises:
        ConfigError: `activations` is unknown or the token budget is not positive.
    """
    if micro_batch_tokens is not None and micro_batch_tokens < 1:
        raise ConfigError(f"micro_batch_tokens is {micro_batch_tokens}; it must be at least 1")
    base = base_model(model)
    bound = vars(base).get("forward")
    backbone = attach(base, activations=activations, fuse=fuse)
    head = FusedHeadOptions.of(base.forward)
    options = replace(head or FusedHeadOptions(), entropy_gradient=entropy_gradient)
    compact = CompactForward(
        base, base.forward, backbone, micro_batch_tokens, linear_loss, options, head is not None
    )
    names = list(inspect.signature(type(base).forward).parameters)[1:]

    @functools.wraps(type(base).forward)
    def forward(
        self: nn.Module,
        *args: Any,
        fused_lm_head: bool = False,
        labels: Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        inputs.update(zip(names, args, strict=False))
        serving = compact if self is base else compact.of_copy(self)
        return serving(fused_lm_head, labels, inputs)

    compact.bound = forward
    base.forward = types.MethodType(forward, base)

    def undo() -> None:
        if bound is None:
            del base.forward
        else:
            base.forward = bound

    return compact, undo
