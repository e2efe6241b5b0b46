"""Where models of this process came from, and how they are to be trained."""

import weakref
from dataclasses import dataclass, field
from typing import Any

from strop.forward.base_model import base_model


@dataclass(slots=True)
class Origin:
    """What a model was opened with."""

    name: str
    """A packaged name, a folder, a hub id."""
    max_seq_length: int
    tokenizer: Any = None
    activations: str = "auto"
    """What is kept for backward; see `strop.accelerate`."""
    full: bool = False
    """All weights are trained, without an adapter."""
    seeds: list[int] = field(default_factory=list)
    """Seeds of the draws of `fast_generate`, counted on."""


_ORIGINS: "weakref.WeakKeyDictionary[Any, Origin]" = weakref.WeakKeyDictionary()


def remember(model: Any, origin: Origin) -> None:
    """Keep the origin of a transformers model, as long as it lives."""
    _ORIGINS[base_model(model)] = origin


def origin_of(model: Any) -> Origin | None:
    """Return the origin of a model or of the one beneath its adapter; None for another's."""
    return _ORIGINS.get(base_model(model))
