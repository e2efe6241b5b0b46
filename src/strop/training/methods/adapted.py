"""A trainer of any method over a model that gets a new adapter."""

from pathlib import Path
from typing import Any, TypeVar

from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from strop.core.errors import ConfigError
from strop.core.quiet import quiet
from strop.models.lora import initialisation as lora_init
from strop.models.lora.config import config_for
from strop.models.lora.continued import begin_with, config_of
from strop.models.lora.embeddings import embedding_modules, widen_copies
from strop.models.lora.full_weights import train_all
from strop.models.lora.gradient_start import begin_by_gradient
from strop.models.lora.starts import (
    GRADIENT,
    MIRRORED,
    begin_by_eva,
    begin_mirrored,
    begin_orthogonal,
    mirrored_fields,
)
from strop.planning.settings import Settings
from strop.runs.reward_model import HEAD, METHOD
from strop.training.dataset import TrainingData
from strop.training.methods.optimizers import optimizer_of
from strop.training.trainer import RunTrainer

T = TypeVar("T", bound=RunTrainer)


def adapted(
    trainer_class: type[T],
    settings: Settings,
    args: TrainingArguments,
    model: Any,
    tokenizer: Any,
    data: TrainingData[Any],
    callbacks: list[TrainerCallback],
    **more: Any,
) -> T:
    """Return a trainer of this class; PEFT puts a new adapter into the model, unless all is trained.

    Args:
        trainer_class: of the method.
        settings: decide the adapter and its start.
        args: what `arguments` returned.
        model: a transformers model without an adapter.
        tokenizer: gives the padding token.
        data: what the method's `encode` returned.
        callbacks: called at every step.
        **more: what else the class takes.

    Raises:
        ConfigError: TRL or PEFT refuses the settings for this model.
    """
    adapter = adapter_config(settings, model) if settings.adapter == "lora" else None
    if adapter is None:
        train_all(model, settings.frozen)
    train, held_out = data.sets()
    try:
        with quiet():
            trainer = trainer_class(
                model,
                args=args,
                train_dataset=train,
                eval_dataset=held_out,
                processing_class=tokenizer,
                peft_config=adapter,
                callbacks=callbacks,
                **more,
            )
    except ValueError as e:
        raise ConfigError(f"TRL's trainer does not take these settings: {e}") from e
    trainer.remove_callback(PrinterCallback)
    trainer.optimizer_of = optimizer_of(settings)
    if settings.train_embeddings:
        widen_copies(trainer.model)
    if settings.continue_from is not None:
        begin_with(trainer.model, Path(settings.continue_from))
    if settings.lora_init == GRADIENT:
        begin_by_gradient(trainer.model, data.token_ids, data.labels)
    elif settings.lora_init in MIRRORED:
        begin_mirrored(trainer.model, settings.lora_init)
    if settings.lora_init == "orthogonal":
        begin_orthogonal(trainer.model)
    if settings.lora_init == "eva":
        with quiet():
            begin_by_eva(trainer.model, data.texts)
    if settings.lora_init == "quantization_error":
        lora_init.begin(trainer.model, Path(model.name_or_path) / lora_init.FOLDER)
    return trainer


def adapter_config(settings: Settings, model: Any) -> Any:
    """Return PEFT's configuration of the adapter of a model: that of another one, or by the settings.

    Raises:
        DataError: the adapter to begin with cannot be read.
        UnsupportedError: it is no LoRA.
        ConfigError: experts would get an adapter of a kind that PEFT does not have for them.
    """
    if settings.continue_from is not None:
        return config_of(Path(settings.continue_from), settings.dropout)
    head = {"task_type": "SEQ_CLS", "modules_to_save": [HEAD]} if settings.method == METHOD else {}
    kinds = {name: True for name in ("use_rslora", "use_dora") if getattr(settings, name)}
    patterns = {
        name: dict(pattern)
        for name in ("rank_pattern", "alpha_pattern")
        if (pattern := getattr(settings, name))
    }
    fields: dict[str, Any] = {
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        **head,
        **kinds,
        **patterns,
        **(embedding_modules(model) if settings.train_embeddings else {}),
    }
    if settings.lora_init in MIRRORED:
        rslora = settings.use_rslora
        fields |= mirrored_fields(settings.rank, settings.alpha, patterns, rslora=rslora)
    if settings.lora_init == "gaussian":
        fields["init_lora_weights"] = "gaussian"
    rank, alpha = fields.pop("r"), fields.pop("lora_alpha")
    return config_for(model, rank, alpha, settings.modules, settings.dropout, **fields)


def padding(tokenizer: Any) -> int:
    """Return the id of the token that fills short rows."""
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)
