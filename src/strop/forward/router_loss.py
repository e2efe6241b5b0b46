"""Load balancing of a mixture of experts, as transformers computes it, over compacted tokens."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def router_loss(model: Any, logits: Tensor | None, copies: Tensor) -> Tensor:
    """Return E * sum over experts of (share of the choices) * (mean probability), padding left out.

    Args:
        model: a causal language model of transformers.
        logits: [L, N, E] of each layer's router.
        copies: [N] rows that have a token, each of which counts.
    """
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    config = model.config.get_text_config()
    layers = () if logits is None else tuple(logits)
    loss: Tensor = load_balancing_loss_func(
        layers, config.num_experts, config.num_experts_per_tok, copies
    )
    return loss


def has_router_loss(model: Any, arguments: Mapping[str, Any]) -> bool:
    """Return whether TRL's trainers add this loss, a mean over each batch they compute.

    Args:
        model: a causal language model of transformers.
        arguments: of the trainer.
    """
    config = model.config.get_text_config()
    weight = arguments.get("router_aux_loss_coef")
    weight = coefficient(model) if weight is None else weight
    return hasattr(config, "output_router_logits") and weight != 0


def coefficient(model: Any) -> float:
    """Return the weight of this loss in the model's own."""
    return float(getattr(model.config.get_text_config(), "router_aux_loss_coef", 0.0))
