"""What of an adapter no export could merge, known once it is in the model and before it is trained."""

from collections.abc import Iterator
from typing import Any

MERGED = ("Linear", "Embedding", "ParamWrapper")
"""PEFT's classes of LoRA layers whose update is added to a weight; Conv1D's is its Linear."""


def unmergeable(model: Any) -> Iterator[str]:
    """Yield a sentence for each kind of trained weight that no export takes.

    Args:
        model: a PEFT model with its adapter, of strop's training.
    """
    base = model.base_model.model
    tied = _tied(base)
    odd: dict[str, list[str]] = {}
    for name, module in base.named_modules():
        if not hasattr(module, "get_base_layer"):
            continue
        weight = f"{name.replace('.base_layer', '')}.{getattr(module, 'parameter_name', 'weight')}"
        if weight in tied:
            odd.setdefault(f"is tied to {tied[weight]}", []).append(weight)
        elif type(module).__name__ not in MERGED:
            odd.setdefault(f"has an adapter of the kind {type(module).__name__}", []).append(weight)
    for what, names in odd.items():
        more = f" ({len(names)} such weights)" if len(names) > 1 else ""
        yield (
            f"no export can merge what is trained here: {names[0]} {what}{more}; take it out of "
            "target_modules to export the run"
        )


def _tied(base: Any) -> dict[str, str]:
    """Return the weights that are one with another: {either: the other}."""
    tied = {**base.all_tied_weights_keys}
    return {**tied, **{source: one for one, source in tied.items()}}
