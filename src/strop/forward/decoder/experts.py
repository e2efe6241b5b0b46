"""Mixtures of experts: tokens sorted by expert, one product for each expert that has any.

PEFT adds an adapter of stacked experts to the whole stack [E, F, D] before transformers' own forward,
and PyTorch then makes a gradient as large. Here W_e x and B_e (A_e x) are computed apart, for the tokens
of an expert alone, so that nothing of the size of the stack exists in forward or backward.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from strop.core.dataless import has_data
from strop.layers.frozen_product import product

ROLES = {
    "gate_up_proj": "gate_up_proj_bias",
    "up_proj": "up_proj_bias",
    "down_proj": "down_proj_bias",
}
"""transformers' stacked weights of experts, and the biases beside them."""


@contextlib.contextmanager
def grouped(model: nn.Module) -> Iterator[None]:
    """Let every mixture of experts of `model` compute expert by expert inside the block."""
    bound = []
    for experts, adapters in mixtures(model):
        outer = adapters[0] if adapters else experts
        if getattr(vars(outer).get("forward"), "func", None) is not _forward:
            bound.append((outer, vars(outer).get("forward")))
            outer.forward = functools.partial(_forward, experts, adapters)
    try:
        yield
    finally:
        for outer, before in bound:
            del outer.forward
            if before is not None:
                outer.forward = before


def mixtures(model: nn.Module) -> list[tuple[Any, list[Any]]]:
    """Return the stacked experts of a model that this module computes, each with PEFT's layers around it.

    The outermost layer comes first.
    """
    around: dict[int, list[Any]] = {}
    modules: list[Any] = list(model.modules())
    for module in modules:
        if hasattr(module, "parameter_name") and hasattr(module, "get_base_layer"):
            around.setdefault(id(module.get_base_layer()), []).append(module)
    pairs = [(m, around.get(id(m), [])) for m in modules if is_mixture(m)]
    return [(m, layers) for m, layers in pairs if all(_adds(layer) for layer in layers)]


def is_mixture(module: Any) -> bool:
    """Return whether a module is a stack of experts as transformers describes one."""
    stacked = hasattr(module, "is_transposed") and hasattr(module, "has_gate")
    return stacked and "down_proj" in module._parameters and not module._is_expert_parallel


def _adds(layer: Any) -> bool:
    """Return whether a layer of PEFT adds B A to each expert of a stack."""
    parameter = layer.get_base_layer()._parameters.get(layer.parameter_name)
    return layer.parameter_name in ROLES and parameter is not None and parameter.is_floating_point()


@dataclass(frozen=True, slots=True)
class _Stack:
    """Linear layers of all experts: y = x W_e^T + b_e + sum of scale * x A_e^T B_e^T."""

    weights: Sequence[Tensor]
    """[O, I] each."""
    biases: Sequence[Tensor] | None
    """[O] each."""
    updates: Sequence[tuple[float, Sequence[Tensor], Sequence[Tensor]]]
    """Scale, A [R, I] and B [O, R] of each expert, for each adapter."""

    def __call__(self, x: Tensor, expert: int) -> Tensor:
        """Return y [N, O] of rows [N, I]."""
        weight = self.weights[expert]
        if weight.requires_grad or (weight.dtype == x.dtype and weight.is_contiguous()):
            y = F.linear(x, weight.to(x.dtype))
        else:
            y = product(x, weight)
        for scale, a, b in self.updates:
            narrow = F.linear(x, a[expert].to(x.dtype))
            y = y + F.linear(narrow, b[expert].to(x.dtype)) * scale
        return y if self.biases is None else y + self.biases[expert].to(x.dtype)


def _forward(
    experts: Any, adapters: list[Any], hidden: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """Return the weighted sum [N, D] of the outputs of each token's experts.

    Args:
        experts: the stack.
        adapters: PEFT's layers around it.
        hidden: [N, D].
        top_k_index: [N, K] experts of each token.
        top_k_weights: [N, K].
    """
    K, E = top_k_index.shape[-1], experts.num_experts
    up = _stack(experts, adapters, "gate_up_proj" if experts.has_gate else "up_proj")
    down = _stack(experts, adapters, "down_proj")
    chosen = top_k_index.reshape(-1)
    order = chosen.argsort(stable=True)
    counts = _counts(chosen, E)
    wide = torch.promote_types(hidden.dtype, experts.down_proj.dtype)
    rows = hidden.to(wide).index_select(0, order // K).split(counts)
    outputs = [
        down(_activated(experts, up(x, expert)), expert) for expert, x in enumerate(rows) if len(x)
    ]
    y = torch.cat(outputs) if outputs else hidden.to(wide).new_empty(0, hidden.shape[-1])
    if experts.has_post_expert_norm:
        y = experts.post_expert_norm(y)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    weighted = y.index_select(0, back).view(-1, K, y.shape[-1]) * top_k_weights[..., None]
    return weighted.sum(1).to(hidden.dtype)


def _counts(chosen: Tensor, experts: int) -> list[int]:
    """Return how many rows each expert gets; of tensors without numbers, as many as the others."""
    if has_data(chosen):
        counts: list[int] = torch.bincount(chosen, minlength=experts).tolist()
        return counts
    few, more = divmod(len(chosen), experts)
    return [few + (expert < more) for expert in range(experts)]


def _activated(experts: Any, x: Tensor) -> Tensor:
    activated: Tensor = experts._apply_gate(x) if experts.has_gate else experts.act_fn(x)
    return activated


def _stack(experts: Any, adapters: Sequence[Any], name: str) -> _Stack:
    weight: Tensor = experts._parameters[name]
    bias = experts._parameters.get(ROLES[name]) if experts.has_bias else None
    updates = [
        (float(layer.scaling[active]), *_factors(layer, active))
        for layer in adapters
        if layer.parameter_name == name and not layer.disable_adapters and not layer.merged
        for active in layer.active_adapters
        if active in layer.lora_A
    ]
    oriented = weight.mT if experts.is_transposed else weight
    return _Stack(oriented.unbind(0), None if bias is None else bias.unbind(0), updates)


def _factors(layer: Any, active: str) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return A [R, I] and B [O, R] of each expert, as PEFT stores them in two matrices."""
    a, b, E = layer.lora_A[active].weight, layer.lora_B[active].weight, layer.num_experts
    return (
        a.view(E, -1, a.shape[1]).unbind(0),
        b.view(b.shape[0], -1, E).permute(2, 0, 1).unbind(0),
    )
