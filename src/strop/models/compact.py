"""The forward that a TRL trainer calls, on kept tokens only.

TRL asks its model for per-token log-probabilities (`fused_lm_head=True`) and makes its loss of them.
`install` re-binds `forward` of the base-model instance to answer that call from `kept_tokens`; every
other call goes where it went before.
"""

import functools
import logging
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from trl.trainer.utils import FusedCausalLMOutput

from strop.core.errors import ConfigError, DataError
from strop.models.backbone import Backbone, attach
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
    calls: int = 0
    reported: set[str] = field(default_factory=set)

    def __call__(self, fused_lm_head: bool, labels: Tensor | None, inputs: dict[str, Any]) -> Any:
        """Serve the call, or pass it on."""
        if not fused_lm_head:
            extra = {} if labels is None else {"labels": labels}
            return self.previous(**inputs, **extra)
        self.calls += 1
        obstacle = _obstacle(labels, inputs)
        pieces = None
        if obstacle is None and labels is not None:
            self._check(inputs["input_ids"], labels)
            pieces = keep_tokens(
                inputs["input_ids"],
                labels,
                inputs.get("attention_mask"),
                inputs.get("position_ids"),
                budget=self.micro_batch_tokens,
                share=self.backbone.shares_prefixes(),
            )
            if pieces is None:
                obstacle = "its padding has holes, or a label follows a padding token"
        if pieces is None or labels is None:
            self._report(f"a batch ran without strop's compact forward: {obstacle}")
            return self.previous(**inputs, labels=labels, fused_lm_head=True)
        return self._output(pieces, labels, inputs.get("num_items_in_batch"))

    def _output(self, pieces: list[KeptTokens], labels: Tensor, items: Any) -> Any:
        mask = labels[:, 1:] != IGNORED
        trained = [p for p in self.model.parameters() if p.requires_grad]
        scores = scores_in_pieces(self._score, pieces, mask.numel(), trained, self.linear_loss)
        log_probs = scores.log_prob.view(mask.shape)
        count = mask.sum().clamp(min=1) if items is None else items
        return FusedCausalLMOutput(
            loss=-log_probs.sum() / count,
            log_probs=log_probs,
            entropy=scores.entropy.view(mask.shape),
            is_top1=scores.is_top1.view(mask.shape),
            label_mask=mask,
        )

    def _score(self, kept: KeptTokens) -> Scores:
        hidden = self.backbone(kept)
        found = Head.of(self.model).score(hidden, kept.targets)
        return Scores(found.log_prob, found.entropy, found.is_top1)

    def _check(self, input_ids: Tensor, labels: Tensor) -> None:
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and input_ids.shape[1] > limit:
            longest = int((labels != IGNORED).sum(1).max())
            raise DataError(
                f"a row has {input_ids.shape[1]} tokens ({longest} with a label); this model's "
                f"context is {limit}. Shorten the rows, for example with max_length={limit}"
            )
        V = self.model.get_output_embeddings().weight.shape[0]
        wrong = (labels >= V) | ((labels < 0) & (labels != IGNORED))
        if wrong.any():
            row, place = (int(i) for i in wrong.nonzero()[0])
            raise DataError(
                f"row {row} has the label {int(labels[row, place])} at token {place}; labels are "
                f"-100 or from 0 to {V - 1}, the model's vocabulary"
            )

    def _report(self, text: str) -> None:
        if text not in self.reported:
            self.reported.add(text)
            log.warning(text)


def _obstacle(labels: Tensor | None, inputs: dict[str, Any]) -> str | None:
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
    return "its attention mask is not [B, T]" if mask is not None and mask.ndim != 2 else None


def base_model(model: Any) -> Any:
    """Return the transformers model inside PEFT's wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def install(
    model: nn.Module,
    *,
    policy: str = "auto",
    micro_batch_tokens: int | None = None,
    linear_loss: bool = False,
    fuse: str = "auto",
) -> tuple[CompactForward, Undo]:
    """Bind the compact forward to `model` and return it with the function that takes it out again.

    Args:
        model: a causal language model of transformers, with or without PEFT's wrapper.
        policy: what is kept for backward: "keep", "checkpoint", "offload", or "auto".
        micro_batch_tokens: largest number of tokens computed at once; None means all.
        linear_loss: the loss is a constant times the sum of the log-probabilities (SFT).
        fuse: run known blocks through strop's halves: "always", "never", or "auto": not in float64.

    Raises:
        ConfigError: `policy` is unknown or the token budget is not positive.
    """
    if micro_batch_tokens is not None and micro_batch_tokens < 1:
        raise ConfigError(f"micro_batch_tokens is {micro_batch_tokens}; it must be at least 1")
    base = base_model(model)
    bound = vars(base).get("forward")
    backbone = attach(base, policy=policy, fuse=fuse)
    compact = CompactForward(base, base.forward, backbone, micro_batch_tokens, linear_loss)

    @functools.wraps(type(base).forward)
    def forward(
        self: nn.Module,
        *args: Any,
        fused_lm_head: bool = False,
        labels: Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        if args:
            inputs["input_ids"] = args[0]
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
