"""The language-model head, read from any model: weight, bias, scale, soft-cap, adapter."""

from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from strop.models.adapters import folded_weight
from strop.ops.linear_log_prob import LogProbs, linear_log_prob


@dataclass(frozen=True, slots=True)
class Head:
    """What turns hidden rows into logits: softcap * tanh(scale * (h W^T + b) / softcap)."""

    weight: Tensor
    """[V, D]"""
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
            folded_weight(layer),
            getattr(layer, "bias", None),
            _scale(config),
            getattr(config, "final_logit_softcapping", None),
        )

    def score(self, hidden: Tensor, targets: Tensor) -> LogProbs:
        """Return log-probability, entropy and top-1 of each target [M] given hidden rows [M, D]."""
        return linear_log_prob(
            hidden, self.weight, targets, bias=self.bias, scale=self.scale, softcap=self.softcap
        )


def _scale(config: Any) -> float:
    """Return the factor on the logits: families spell it in four ways, most have none."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    divisor = getattr(config, "logits_scaling", None)
    if divisor is None:
        return 1.0
    return float(divisor) if config.model_type == "hyperclovax" else 1.0 / divisor
