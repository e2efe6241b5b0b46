"""What a model object computes otherwise than its weights and its configuration say."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from strop.forward.decoder.modified import PACKAGES, foreign_forward, foreign_hooks

_FREE = ("training", "layer_idx", "gradient_checkpointing", "padding_idx")
"""Numbers of a layer that change nothing of what a model with frozen embeddings computes."""
_FOLLOWS_ROWS = ("dynamic", "longrope")
"""Rotary embeddings whose frequencies are those of the longest row so far."""


def changed_by_hand(model: nn.Module, stored: nn.Module) -> Iterator[str]:
    """Yield what of `model` no saved folder has: classes, hooks, forwards, numbers, buffers.

    Args:
        model: the object.
        stored: the model as it is opened from a folder.
    """
    layers = dict(stored.named_modules())
    for name, layer in model.named_modules():
        if (other := layers.get(name)) is not None:
            where = f"{name} " if name else "the model "
            yield from (f"{where}({what})" for what in _of_layer(layer, other))


def _of_layer(layer: nn.Module, other: nn.Module) -> Iterator[str]:
    if (package := foreign_forward(layer)) is not None:
        yield f"a forward of {package} is bound to it"
    if (package := foreign_hooks(layer)) is not None:
        yield f"it carries a hook of {package}"
    if _kind(layer) is not _kind(other):
        yield f"a {type(layer).__name__} in place of {type(other).__name__}"
        return
    if type(layer) is type(other) and not hasattr(layer, "base_model_prefix"):
        theirs = vars(other)
        for key, value in vars(layer).items():
            usual = theirs.get(key)
            if _is_number(key, value) and _is_number(key, usual) and value != usual:
                yield f"{key} is {value} in place of {usual}"
    if any(rope in str(getattr(layer, "rope_type", "")) for rope in _FOLLOWS_ROWS):
        return
    saved = {*layer.state_dict(keep_vars=True)}
    buffers = dict(other.named_buffers(recurse=False))
    for key, value in layer.named_buffers(recurse=False):
        if key not in saved and key in buffers and not _same(value, buffers[key]):
            yield f"its buffer {key} has other values"


def _kind(layer: nn.Module) -> type:
    """Return the class of a layer; linear layers and embeddings are one, however they are held."""
    package = type(layer).__module__.partition(".")[0]
    kinds = (nn.Linear, nn.Embedding) if package in PACKAGES else ()
    return next((kind for kind in kinds if isinstance(layer, kind)), type(layer))


def _is_number(key: str, value: Any) -> bool:
    return isinstance(value, int | float | str) and key not in _FREE and not key.startswith("_")


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.to(b.device, b.dtype), b)
