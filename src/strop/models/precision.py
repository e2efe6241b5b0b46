"""How a model's weights are held in memory beside the format it computes in.

bits=16 where products run in float32: linear layers and embeddings stay in 16 bits and are widened
for each product; everything else is float32. That loses nothing of a 16-bit checkpoint.
"""

from typing import Any, Literal

import torch
from torch import nn

from strop.layers.narrow import NarrowEmbedding, NarrowLinear
from strop.layers.quantized_linear import QuantizedLinear
from strop.quantization.linear_layers import linear_layers

Bits = Literal[4, 16, 32]
Dtype = Literal["float32", "bfloat16", "float16"]
NARROW = (torch.bfloat16, torch.float16)


def store_narrow(model: nn.Module, dtype: torch.dtype = torch.float32) -> bool:
    """Hold linear weights and embeddings of `model` in 16 bits, and compute in `dtype`.

    Weights of 16 bits are kept as they are, without a copy; wider ones are rounded to bfloat16.
    Layers of other kinds, trained for their own arithmetic, are widened to `dtype`.

    Returns:
        Whether a weight was rounded.
    """
    rounded = False
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                rounded |= narrow(child)
                setattr(parent, name, NarrowLinear(child))
            elif isinstance(child, nn.Embedding) and (scale := _scale(child)) is not None:
                rounded |= narrow(child)
                setattr(parent, name, NarrowEmbedding(child, dtype, scale))
    _widen_rest(model, dtype)
    if rounded:
        _leave_files(model)
    return rounded


def _leave_files(model: nn.Module) -> None:
    """Copy what was not rounded: a file stays in memory whole while one tensor is a part of its map."""
    for parameter in model.parameters():
        if parameter.dtype.is_floating_point and parameter.dtype not in NARROW:
            parameter.data = parameter.data.clone()


def narrow(layer: nn.Linear | nn.Embedding) -> bool:
    """Round the weight of a layer to bfloat16 if it is wider than 16 bits; say whether it was."""
    if layer.weight.dtype in NARROW:
        return False
    layer.weight.data = layer.weight.data.bfloat16()  # in place, for a tied head shares it
    return True


def _scale(embedding: nn.Embedding) -> float | None:
    """Return the factor an embedding puts on its rows, or None if it does something else to them."""
    if type(embedding) is nn.Embedding:
        return 1.0
    return getattr(embedding, "scalar_embed_scale", None)  # transformers' ScaledWordEmbedding


def _widen_rest(model: nn.Module, dtype: torch.dtype) -> None:
    for module in model.modules():
        if isinstance(module, QuantizedLinear):
            continue
        is_narrow = isinstance(module, NarrowLinear | NarrowEmbedding)
        for name, parameter in [*module.named_parameters(recurse=False)]:
            if parameter.dtype in NARROW and not (is_narrow and name == "weight"):
                parameter.data = parameter.data.to(dtype)
        for name, buffer in [*module.named_buffers(recurse=False)]:
            if buffer.dtype in NARROW:
                setattr(module, name, buffer.to(dtype))


def computes_in(model: Any) -> torch.dtype:
    """Return the dtype that the model's products run in."""
    embedding = model.get_input_embeddings()
    if isinstance(embedding, NarrowEmbedding):
        return embedding.dtype
    dtype: torch.dtype = embedding.weight.dtype
    return dtype


def dtype_name(model: Any) -> Dtype:
    """Return the name of the dtype that the model's products run in."""
    names: dict[torch.dtype, Dtype] = {
        torch.float32: "float32",
        torch.bfloat16: "bfloat16",
        torch.float16: "float16",
    }
    return names[computes_in(model)]


def bits_of(model: nn.Module) -> Bits:
    """Return in how many bits the linear weights of `model` are held: 4, 16 or 32.

    A model with any quantised layer counts as 4, whatever its single layers have.
    """
    if any(isinstance(m, QuantizedLinear) for m in model.modules()):
        return 4
    weights = [layer.weight for layer in linear_layers(model).values()]
    return 16 if all(w.dtype in NARROW for w in weights) else 32


def described(model: nn.Module) -> dict[str, Any]:
    """Return what a run records of its frozen weights.

    Returns:
        bits: see `bits_of`; bytes: of all weights as they are held; parameters: their number,
        codes counted as the weights they stand for; bits_per_quantised_weight: scales included.
    """
    quantised = [m for m in model.modules() if isinstance(m, QuantizedLinear)]
    codes = {id(m.weight) for m in quantised}
    rest = [p for p in model.parameters() if id(p) not in codes]
    stored = sum(m.stored_bytes for m in quantised)
    count = sum(m.shape.numel() for m in quantised)
    facts: dict[str, Any] = {
        "bits": bits_of(model),
        "bytes": stored + sum(p.nbytes for p in rest),
        "parameters": count + sum(p.numel() for p in rest),
    }
    if quantised:
        facts["bits_per_quantised_weight"] = round(8 * stored / count, 3)
    return facts
