"""Calls for log-probabilities that are left to the forward that was bound before, and why."""

from typing import Any

from torch import Tensor

from strop.forward.decoder import modified


def obstacle(model: Any, labels: Tensor | None, inputs: dict[str, Any]) -> str | None:
    """Return why a call [B, T] is left to the forward that was bound before, or None."""
    if labels is None or inputs.get("shift_labels") is not None:
        return "it has no plain labels"
    if inputs.get("input_ids") is None:
        return "it gives embeddings in place of token ids"
    known = {"input_ids", "attention_mask", "position_ids", "use_cache", "num_items_in_batch"}
    packed = {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx"}
    if can_route(model):
        known |= {"output_router_logits"}
    extra = [
        k for k, v in inputs.items() if k not in known | packed and v is not None and v is not False
    ]
    if extra:
        return f"it has {', '.join(extra)}"
    mask = inputs.get("attention_mask")
    if mask is not None and mask.ndim != 2:
        return "its attention mask is not [B, T]"
    return _obstacle_in(model)


def can_route(model: Any) -> bool:
    """Return whether the decoder gives the logits of its routers when it is asked for them."""
    config = model.config.get_text_config()
    recorded = getattr(model.base_model, "_can_record_outputs", None) or {}
    sizes = hasattr(config, "num_experts") and hasattr(config, "num_experts_per_tok")
    return "router_logits" in recorded and sizes


def routes(model: Any, inputs: dict[str, Any]) -> bool:
    """Return whether a call includes the loss of the routers, as TRL's fused head reads it."""
    default = getattr(model.config.get_text_config(), "output_router_logits", False)
    return bool(inputs.get("output_router_logits", default))


def _obstacle_in(model: Any) -> str | None:
    """Return what the model does now that the compact forward does not do, or None."""
    config = model.config.get_text_config()
    if getattr(config, "output_router_logits", False) and not can_route(model):
        return "the model has a router loss"
    if model.training and hasattr(model.get_input_embeddings(), "neftune_noise_alpha"):
        return "NEFTune adds noise to the embeddings"
    if model.training and getattr(config, "attention_dropout", 0.0):
        return "the model drops attention weights at random"
    return modified.obstacle(model)
