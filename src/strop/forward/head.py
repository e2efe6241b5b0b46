"""The language-model head, read from any model: weight, bias, scale, soft-cap, adapter."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from strop.forward.decoder import adapters
from strop.forward.fused_head import FusedHeadOptions
from strop.forward.micro_batches import Scores
from strop.forward.tiled_logits import score_in_tiles
from strop.ops.linear_log_prob import linear_log_prob


@dataclass(frozen=True, slots=True)
class Head:
    """Logits of hidden rows: softcap * tanh(scale * (h W^T + b) / softcap)."""

    layer: Any
    weight: Tensor | None
    """[V, D], an adapter folded in; None where only the layer itself can compute its product."""
    bias: Tensor | None
    """[V]"""
    scale: float
    softcap: float | None

    @classmethod
    def of(cls, model: Any) -> Self:
        """Read the head of a transformers model; an adapter on it is folded in, differentiably."""
        layer: Any = model.get_output_embeddings()
        config = model.config.get_text_config()
        return cls(
            layer,
            _weight(layer),
            getattr(layer, "bias", None),
            _scale(config),
            getattr(config, "final_logit_softcapping", None),
        )

    def score(self, hidden: Tensor, targets: Tensor, options: FusedHeadOptions) -> Scores:
        """Return the scores of each target [M] given hidden rows [M, D]."""
        if options.float32:
            hidden = hidden.float()
        scale = self.scale / options.temperature
        softcap = None if self.softcap is None else self.softcap / options.temperature
        means = "mean_logits" in options.outputs
        statistics = "log_sum_sq_probs" in options.outputs or (means and softcap is not None)
        if self.weight is None or options.entropy_gradient or statistics:
            V = self.layer.weight.shape[0]
            return score_in_tiles(self._logits, hidden, targets, V, scale, softcap)
        scores = linear_log_prob(
            hidden, self.weight, targets, bias=self.bias, scale=scale, softcap=softcap
        )
        mean = self._mean(hidden.detach()) * scale if means else None
        return Scores(scores.log_prob, scores.entropy, scores.is_top1, mean_logits=mean)

    def _logits(self, hidden: Tensor) -> Tensor:
        if self.weight is None:
            logits: Tensor = self.layer(hidden)
            return logits
        dtype = torch.promote_types(hidden.dtype, self.weight.dtype)
        bias = None if self.bias is None else self.bias.to(dtype)
        return F.linear(hidden.to(dtype), self.weight.to(dtype), bias)

    @torch.no_grad()
    def _mean(self, hidden: Tensor) -> Tensor:
        """Return the mean of each row's products [M] without the products: it is linear in W."""
        assert self.weight is not None
        dtype = torch.promote_types(
            torch.float32, torch.promote_types(hidden.dtype, self.weight.dtype)
        )
        mean = hidden.to(dtype) @ _mean_row(self.weight, dtype)
        return mean if self.bias is None else mean + self.bias.mean(dtype=dtype)


def _mean_row(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the mean of the rows [D] of a weight [V, D]; PyTorch's own widens all of it at once."""
    rows = max(1, _SLICE // weight.shape[1])
    wide = weight.new_empty(min(rows, len(weight)), weight.shape[1], dtype=dtype)
    total, part_sum = (weight.new_zeros(weight.shape[1], dtype=dtype) for _ in range(2))
    for part in weight.split(rows):  # into the same memory: small blocks between would leave holes
        torch.sum(wide[: len(part)].copy_(part), 0, out=part_sum)
        total += part_sum
    return total / len(weight)


_SLICE = 2_000_000
"""Numbers of a weight that are widened at once; they should stay in the cache."""


def _weight(layer: Any) -> Tensor | None:
    """Return the [V, D] that the layer multiplies with now, or None if there is no such thing."""
    from peft.utils import ModulesToSaveWrapper

    inner = layer.original_module if isinstance(layer, ModulesToSaveWrapper) else layer
    if type(inner) in adapters.DENSE:
        weight: Tensor = layer.weight
        return weight
    if not adapters.is_lora(inner) or adapters.adapter_obstacle(inner) is not None:
        return None
    parts = adapters.read(inner)
    dense = type(inner.base_layer) in adapters.DENSE
    if parts.magnitude is not None or parts.dropout > 0 or not dense:
        return None
    return adapters.folded_weight(inner)


def _scale(config: Any) -> float:
    """Return the factor on the logits: families name it in four ways, most have none."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    divisor = getattr(config, "logits_scaling", None)
    if divisor is None:
        return 1.0
    return float(divisor) if config.model_type == "hyperclovax" else 1.0 / divisor
