"""A trainer of any method over a model that gets a new adapter."""

from pathlib import Path
from typing import Any, TypeVar

from transformers import PrinterCallback

from strop.core.errors import ConfigError
from strop.core.quiet import quiet
from strop.models.lora import initialisation as lora_init
from strop.models.lora.config import lora_config
from strop.planning.settings import Settings
from strop.training.trainer import RunTrainer

T = TypeVar("T", bound=RunTrainer)


def adapted(trainer_class: type[T], settings: Settings, model: Any, **arguments: Any) -> T:
    """Return a trainer of this class; PEFT puts a new adapter into the model.

    Args:
        trainer_class: of the method.
        settings: decide the adapter and its start.
        model: a transformers model without an adapter.
        **arguments: what the class takes besides model and adapter.

    Raises:
        ConfigError: TRL or PEFT refuses the settings for this model.
    """
    adapter = lora_config(settings.rank, settings.alpha, settings.modules, settings.dropout)
    try:
        with quiet():
            trainer = trainer_class(model, peft_config=adapter, **arguments)
    except ValueError as e:
        raise ConfigError(f"TRL's trainer does not take these settings: {e}") from e
    trainer.remove_callback(PrinterCallback)
    if settings.lora_init == "quantization_error":
        lora_init.begin(trainer.model, Path(model.name_or_path) / lora_init.FOLDER)
    return trainer


def padding(tokenizer: Any) -> int:
    """Return the id of the token that fills short rows."""
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)
