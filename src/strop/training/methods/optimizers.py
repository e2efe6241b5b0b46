"""Optimizers with more than one learning rate."""

from collections.abc import Callable
from typing import Any

from peft.optimizers import create_loraplus_optimizer

from strop.models.lora.embeddings import embedding_parameters
from strop.planning.settings import Settings


def optimizer_of(settings: Settings) -> Callable[[Any], Any] | None:
    """Return what makes the optimizer of a trainer; None where transformers' own does."""
    if (ratio := settings.loraplus_lr_ratio) is not None:
        return lambda trainer: _loraplus(trainer, ratio)
    if (rate := settings.embedding_learning_rate) is not None:
        return lambda trainer: with_embedding_rate(trainer, rate)
    return None


def _loraplus(trainer: Any, ratio: float) -> Any:
    """Return AdamW whose B learns `ratio` times faster than A (LoRA+, arXiv:2402.12354)."""
    kind, options = trainer.get_optimizer_cls_and_kwargs(trainer.args)
    return create_loraplus_optimizer(
        trainer.model,
        optimizer_cls=kind,
        loraplus_lr_ratio=ratio,
        loraplus_weight_decay=trainer.args.weight_decay,
        **options,
    )


def with_embedding_rate(trainer: Any, rate: float) -> Any:
    """Return transformers' optimizer with a learning rate of its own for embedding and head."""
    kind, options = trainer.get_optimizer_cls_and_kwargs(trainer.args)
    apart = {id(p) for p in embedding_parameters(trainer.model)}
    decaying = set(trainer.get_decay_parameter_names(trainer.model))
    groups: dict[tuple[bool, bool], list[Any]] = {}
    for name, parameter in trainer.model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in apart, name in decaying), []).append(parameter)
    decay = trainer.args.weight_decay
    return kind(
        [
            {
                "params": groups[embeds, decays],
                "weight_decay": decay if decays else 0.0,
                **({"lr": rate} if embeds else {}),
            }
            for embeds, decays in sorted(groups)  # the first group's rate is logged
        ],
        **options,
    )
