"""A model without PEFT's wrapper."""

from typing import Any


def base_model(model: Any) -> Any:
    """Return the transformers model inside PEFT's wrapper, or the model itself.

    A model that got its adapter by transformers' own `add_adapter` has no wrapper.
    """
    return model.get_base_model() if hasattr(model, "get_base_model") else model
