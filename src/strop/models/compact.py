"""The forward that a TRL trainer calls, on kept tokens only.

TRL asks its model for per-token log-probabilities (`fused_lm_head=True`) and makes its loss of them.
`install` re-binds `forward` of the base-model instance to answer that call from `kept_tokens`; every
other call goes where it went before.
"""

import functools
import inspect
import logging
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from trl.trainer.utils import FusedCausalLMOutput

from strop.core.errors import ConfigError, UnsupportedError
from strop.models.asked import Asked
from strop.models.backbone import Backbone, attach
from strop.models.faults import check_batch, check_finite
from strop.models.head import Head
from strop.models.kept_tokens import IGNORED, KeptTokens, keep_tokens
from strop.models.pieces import Scores, scores_in_pieces

log = logging.getLogger("strop")
Undo = Callable[[], None]


@dataclass(slots=True)
class CompactForward:
    """Answers TRL's call for log-probabilities; counts its calls so that a trainer can check."""

    model: Any
    """The base model, without PEFT's wrapper."""
    previous: Callable[..., Any]
    """The forward that was bound before, for every call this one does not serve."""
    backbone: Backbone
    micro_batch_tokens: int | None
    linear_loss: bool
    """The trainer's loss is linear in the log-probabilities, so pieces may run backward at once."""
    asked: Asked = field(default_factory=Asked)
    calls: int = 0
    reported: set[str] = field(default_factory=set)

    def __call__(self, fused_lm_head: bool, labels: Tensor | None, inputs: dict[str, Any]) -> Any:
        """Serve the call, or pass it on."""
        if not fused_lm_head:
            extra = {} if labels is None else {"labels": labels}
            return self.previous(**inputs, **extra)
        self.calls += 1
        obstacle = _obstacle(self.model, labels, inputs)
        pieces = None
        if obstacle is None and labels is not None:
            pieces = self.pieces(labels, inputs)
            if pieces is None:
                obstacle = "its padding has holes, or a label follows a padding token"
        if pieces is None or labels is None:
            self._report(f"a batch ran without strop's compact forward: {obstacle}")
            return self.previous(**inputs, labels=labels, fused_lm_head=True)
        return self.answer(pieces, labels, inputs.get("num_items_in_batch"))

    def pieces(self, labels: Tensor, inputs: dict[str, Any]) -> list[KeptTokens] | None:
        """Return the tokens to compute, or None where the batch has no such form."""
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        positions = inputs.get("position_ids")
        check_batch(self.model, ids, labels, mask, positions)
        share = self.backbone.shares_prefixes()
        if not share:
            self._report("dropout draws every row anew, so shared prefixes are computed per row")
        return keep_tokens(
            ids, labels, mask, positions, budget=self.micro_batch_tokens, share=share
        )

    def answer(self, pieces: list[KeptTokens], labels: Tensor, items: Any) -> Any:
        """Return what TRL is answered, from pieces of the batch with these labels."""
        mask = labels[:, 1:] != IGNORED
        trained = [p for p in self.model.parameters() if p.requires_grad]
        scores = scores_in_pieces(
            self._score,
            pieces,
            mask.numel(),
            trained,
            linear_loss=self.linear_loss,
            entropy_gradient=self.asked.entropy_gradient,
        )
        check_finite(self.model, scores.log_prob)
        log_probs, entropy = scores.log_prob, scores.entropy
        if log_probs.requires_grad and not self.asked.entropy_gradient:
            entropy = _WithoutGradient.apply(entropy, log_probs)
        found = {
            "entropy": entropy,
            "is_top1": scores.is_top1,
            "log_sum_sq_probs": scores.log_sum_sq_probs,
            "mean_logits": scores.mean_logits,
        }
        asked = {
            name: None
            if tensor is None or name not in self.asked.outputs
            else tensor.view(mask.shape)
            for name, tensor in found.items()
        }
        count = mask.sum().clamp(min=1) if items is None else items
        return FusedCausalLMOutput(
            loss=-log_probs.sum() / count,
            log_probs=log_probs.view(mask.shape),
            label_mask=mask,
            **asked,
        )

    def _score(self, kept: KeptTokens) -> Scores:
        return Head.of(self.model).score(self.backbone(kept), kept.targets, self.asked)

    def _report(self, text: str) -> None:
        if text not in self.reported:
            self.reported.add(text)
            log.warning(text)


class _WithoutGradient(torch.autograd.Function):
    """Passes the entropy on; a loss that differentiates it fails rather than lose its gradient."""

    @staticmethod
    def forward(ctx: Any, entropy: Tensor, beside: Tensor) -> Tensor:
        return entropy.view_as(entropy)

    @staticmethod
    def backward(ctx: Any, *slope: Tensor) -> tuple[None, None]:
        if slope[0].any():
            raise UnsupportedError(
                "this loss differentiates the entropy, which strop computes without a gradient here; "
                "train it without strop.accelerate (TRL's own entropy_coef is served)"
            )
        return None, None


def _obstacle(model: Any, labels: Tensor | None, inputs: dict[str, Any]) -> str | None:
    if labels is None or inputs.get("shift_labels") is not None:
        return "it has no plain labels"
    if inputs.get("input_ids") is None:
        return "it gives embeddings in place of token ids"
    known = {"input_ids", "attention_mask", "position_ids", "use_cache", "num_items_in_batch"}
    packed = {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx"}
    extra = [
        k for k, v in inputs.items() if k not in known | packed and v is not None and v is not False
    ]
    if extra:
        return f"it has {', '.join(extra)}"
    mask = inputs.get("attention_mask")
    if mask is not None and mask.ndim != 2:
        return "its attention mask is not [B, T]"
    return _obstacle_in(model)


def _obstacle_in(model: Any) -> str | None:
    """Say what the model does now that the compact forward does not do."""
    config = model.config.get_text_config()
    if getattr(config, "output_router_logits", False):
        return "the model has a router loss"
    if not model.training:
        return None
    if hasattr(model.get_input_embeddings(), "neftune_noise_alpha"):
        return "NEFTune adds noise to the embeddings"
    if getattr(config, "attention_dropout", 0.0):
        return "the model drops attention weights at random"
    return None


def base_model(model: Any) -> Any:
    """Return the transformers model inside PEFT's wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def install(
    model: nn.Module,
    *,
    policy: str = "auto",
    micro_batch_tokens: int | None = None,
    linear_loss: bool = False,
    entropy_gradient: bool = False,
    fuse: str = "auto",
) -> tuple[CompactForward, Undo]:
    """Bind the compact forward to `model` and return it with the function that takes it out again.

    Args:
        model: a causal language model of transformers, with or without PEFT's wrapper.
        policy: what is kept for backward: "keep", "checkpoint", "offload", or "auto".
        micro_batch_tokens: largest number of tokens computed at once; None means all.
        linear_loss: the loss is a constant times the sum of the log-probabilities (SFT).
        entropy_gradient: the loss differentiates the entropy; costs a slower head.
        fuse: run known blocks through strop's halves: "always", "never", or "auto": not in float64.

    Raises:
        ConfigError: `policy` is unknown or the token budget is not positive.
    """
    if micro_batch_tokens is not None and micro_batch_tokens < 1:
        raise ConfigError(f"micro_batch_tokens is {micro_batch_tokens}; it must be at least 1")
    base = base_model(model)
    bound = vars(base).get("forward")
    backbone = attach(base, policy=policy, fuse=fuse)
    asked = replace(Asked.of(base.forward) or Asked(), entropy_gradient=entropy_gradient)
    compact = CompactForward(base, base.forward, backbone, micro_batch_tokens, linear_loss, asked)
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
        return compact(fused_lm_head, labels, inputs)

    base.forward = types.MethodType(forward, base)

    def undo() -> None:
        if bound is None:
            del base.forward
        else:
            base.forward = bound

    return compact, undo


@torch.no_grad()
def score(
    model: nn.Module,
    examples: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    micro_batch_tokens: int = 4096,
) -> list[Tensor]:
    """Return the log-probability of every labelled token of every example, sharing prefixes.

    Args:
        model: a causal language model of transformers, with or without PEFT's wrapper.
        examples: pairs of token ids and labels of equal length, -100 where nothing is asked.
        micro_batch_tokens: largest number of tokens computed at once.

    Returns:
        For each example one float tensor: the labelled tokens' log-probabilities, in order.
    """
    compact, undo = install(model, micro_batch_tokens=micro_batch_tokens)
    try:
        T = max(len(ids) for ids, _ in examples)
        shape = (len(examples), T)
        ids, labels = torch.zeros(shape, dtype=torch.int64), torch.full(shape, IGNORED)
        mask = torch.zeros(shape, dtype=torch.int64)
        for b, (own, wanted) in enumerate(examples):
            ids[b, : len(own)], mask[b, : len(own)] = torch.tensor(own), 1
            labels[b, : len(own)] = torch.tensor(wanted)
        device = next(model.parameters()).device
        batch = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        found = compact(True, labels.to(device), batch)
    finally:
        undo()
    return [row[kept] for row, kept in zip(found.log_probs, found.label_mask, strict=True)]
