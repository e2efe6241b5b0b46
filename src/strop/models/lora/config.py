"""PEFT's configuration of a LoRA adapter on a language model."""

from collections.abc import Sequence
from typing import Any

from strop.core.errors import ConfigError
from strop.models.lora.target_modules import peft_targets


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


def config_for(
    model: Any,
    rank: int,
    alpha: float,
    targets: str | Sequence[str],
    dropout: float = 0.0,
    **fields: Any,
) -> Any:
    """Return `lora_config` for a model, whose stacked experts PEFT has to be given by themselves.

    Args:
        model: a transformers model without an adapter.
        rank: see `lora_config`, likewise `alpha`, `dropout` and `fields`.
        alpha: see `rank`.
        targets: layers that get an adapter, as `check_model` takes them, or all-linear.
        dropout: see `rank`.
        **fields: see `rank`.

    Raises:
        ConfigError: stacked experts are to get an adapter of a kind that PEFT does not have for them.
    """
    named = peft_targets(model, targets)
    stacked = named.get("target_parameters")
    if stacked and (dropout or fields.get("use_dora")):
        setting, off = ("dropout", 0) if dropout else ("use_dora", "false")
        raise ConfigError(
            f"an adapter of stacked experts ({', '.join(stacked)}) takes no {setting}, for PEFT adds "
            f"it to whole stacks: set {setting} to {off}, or name linear layers alone, as in "
            "--target-modules q_proj,v_proj"
        )
    modules = named.pop("target_modules")
    return lora_config(rank, alpha, modules, dropout, **named, **fields)
