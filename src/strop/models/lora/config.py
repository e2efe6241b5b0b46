"""PEFT's configuration of a LoRA adapter on a language model."""

from collections.abc import Sequence
from typing import Any


def lora_config(
    rank: int, alpha: float, targets: str | Sequence[str], dropout: float = 0.0, **fields: Any
) -> Any:
    """Return a `peft.LoraConfig`: the adapter adds (alpha / rank) B A to each target's weight.

    Args:
        rank: columns of B and rows of A.
        alpha: numerator of the scale.
        targets: layers that get an adapter, as PEFT takes them.
        dropout: share of the adapter's inputs set to zero in training.
        **fields: further fields of the configuration.
    """
    from peft import LoraConfig

    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        **({"task_type": "CAUSAL_LM"} | fields),
    )
