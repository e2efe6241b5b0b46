"""PEFT's LoRA layers, read: weight, A, B, scale. The layers stay PEFT's, so do the files they save."""

from typing import Any

import torch
from torch import Tensor, nn

from strop.forward.decoder import modified
from strop.layers.narrow import NarrowLinear
from strop.layers.quantized_linear import QuantizedLinear
from strop.ops.dequantize.packed import Packed
from strop.ops.lora_linear.parts import LinearParts

DENSE = (nn.Linear, NarrowLinear)
"""Kinds of linear layers whose weight is a matrix."""
FROZEN = (*DENSE, QuantizedLinear)
"""Kinds of linear layers whose weight is read in place of their forward; no subclasses of them."""


def is_lora(layer: Any) -> bool:
    """Return whether a layer is PEFT's LoRA over another; imports PEFT at the first call."""
    from peft.tuners.lora import Linear

    return isinstance(layer, Linear)


def in_use(module: Any) -> Any:
    """Return the trained copy that PEFT's `modules_to_save` runs in place of a module, or itself."""
    if not hasattr(module, "modules_to_save"):
        return module
    from peft.utils import ModulesToSaveWrapper

    if not isinstance(module, ModulesToSaveWrapper):
        return module
    names = [n for n in module.active_adapters if n in module.modules_to_save]
    if module.disable_adapters or len(names) != 1:
        return module if names and not module.disable_adapters else module.original_module
    return module.modules_to_save[names[0]]


def obstacle(layer: nn.Module, *, trainable: bool = False) -> str | None:
    """Return why `read` cannot read this layer, or None if it can.

    With `trainable` the weight beneath an adapter may be trained: nothing is differentiated.
    """
    layer = in_use(layer)
    if type(layer) in FROZEN:
        return None
    if not is_lora(layer):
        return f"it is a {type(layer).__name__}"
    base: Any = layer.base_layer
    if type(base) not in FROZEN:
        return f"its base layer is a {type(base).__name__}"
    if _trained(base) and not trainable:
        return "its base weight or bias is trained"
    return adapter_obstacle(layer)


def adapter_obstacle(layer: Any) -> str | None:
    """Return why the adapter of a LoRA layer is not W + scale * B A, or None if it is."""
    if layer.fan_in_fan_out:
        return "its weight is transposed"
    names = [n for n in layer.active_adapters if n in layer.lora_A]
    if len(names) > 1:
        return f"it has {len(names)} active adapters"
    if any(layer.lora_bias.get(n) for n in names):
        return "its adapter has a bias"
    if any(layer.use_dora.get(n) and _share_dropped(layer, n) for n in names):
        return "its adapter drops inputs at random beside DoRA"  # PEFT drops them for W too then
    variants = [n for n in names if n in layer.lora_variant and not layer.use_dora.get(n)]
    return (
        f"its adapter is a {type(layer.lora_variant[variants[0]]).__name__}" if variants else None
    )


def _trained(layer: nn.Module) -> bool:
    return any(p.requires_grad for p in layer.parameters())


def read(layer: Any) -> LinearParts:
    """Return the parts of a layer as it is now, without a switched-off or merged adapter."""
    layer = in_use(layer)
    if not is_lora(layer):
        return LinearParts(_weight(layer), layer.bias)
    base: Any = layer.base_layer
    name = next((n for n in layer.active_adapters if n in layer.lora_A), None)
    if name is None or layer.disable_adapters or layer.merged:
        return LinearParts(_weight(base), base.bias)
    magnitude = layer.lora_magnitude_vector[name].weight if layer.use_dora.get(name) else None
    return LinearParts(
        _weight(base),
        base.bias,
        layer.lora_A[name].weight,
        layer.lora_B[name].weight,
        float(layer.scaling[name]),
        magnitude,
        _share_dropped(layer, name),
    )


def _share_dropped(layer: Any, name: str) -> float:
    """Return the dropout probability of an adapter's inputs, 0 in evaluation."""
    return float(getattr(layer.lora_dropout[name], "p", 0.0)) if layer.training else 0.0


def _weight(layer: Any) -> Tensor | Packed:
    if isinstance(layer, QuantizedLinear):
        return layer.packed
    weight: Tensor = layer.weight
    return weight


def folded_weight(layer: Any) -> Tensor:
    """Return W + scale * B A of a layer [E, D], differentiable in its trained tensors."""
    if not is_lora(layer):
        weight: Tensor = layer.weight
        return weight
    parts = read(layer)
    if parts.a is None or parts.b is None:
        plain: Tensor = layer.weight
        return plain
    assert isinstance(parts.weight, Tensor)
    wide = torch.promote_types(parts.weight.dtype, parts.b.dtype)
    return torch.addmm(parts.weight.to(wide), parts.b, parts.a, alpha=parts.scale)


def drops_out(model: nn.Module) -> bool:
    """Return whether a module of `model`, an adapter's among them, draws at random for each token now."""
    return any(
        m.p > 0 if isinstance(m, nn.Dropout) else modified.draws_by_number(m)
        for m in model.modules()
        if m.training
    )
