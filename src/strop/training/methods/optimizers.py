"""Optimizers that transformers has no name for, with several learning rates, and in backward."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from peft.optimizers import create_loraplus_optimizer
from torch import nn

from strop.core.errors import ConfigError
from strop.models.lora.embeddings import embedding_parameters
from strop.planning.problems.optimizers import MUON
from strop.planning.settings import Settings


def optimizer_of(settings: Settings) -> Callable[[Any], Any] | None:
    """Return what makes the optimizer of a trainer; None where transformers' own does."""
    if settings.update_in_backward:
        return in_backward
    if settings.optimizer == MUON:
        return _muon
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


class Joined(torch.optim.Optimizer):
    """Several optimizers as one, for a trainer, its schedule and its checkpoints."""

    def __init__(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Share the groups of `optimizers`, so that a schedule reaches them."""
        self.optimizers = list(optimizers)
        super().__init__([group for each in self.optimizers for group in each.param_groups], {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step of each."""
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all, in order."""
        return {"joined": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        for optimizer, state in zip(self.optimizers, state_dict["joined"], strict=True):
            optimizer.load_state_dict(state)
        self.param_groups = [group for each in self.optimizers for group in each.param_groups]


class InBackward(Joined):
    """One optimizer for each weight, which steps as soon as its gradient is there and lets go of it.

    Gradients of all weights never stand together (LOMO, arXiv:2306.09782), whatever the optimizer. It
    is exact where one backward pass makes a step and nothing needs all gradients, as clipping does.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Hang a step on each weight."""
        super().__init__(optimizers)
        for optimizer in self.optimizers:
            (weight,) = optimizer.param_groups[0]["params"]
            weight.register_post_accumulate_grad_hook(functools.partial(_step_of, optimizer))

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do nothing: every weight has been changed."""


def _step_of(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> None:
    optimizer.step()
    weight.grad = None


def in_backward(trainer: Any) -> InBackward:
    """Return the optimizer of the trainer's arguments for each trained weight apart.

    Raises:
        ConfigError: gradients come scaled, as float16 needs.
    """
    if trainer.args.fp16:
        raise ConfigError(
            "update_in_backward takes gradients as they come, and in float16 they come scaled; take "
            "--dtype bfloat16 or float32, or leave it out"
        )
    kind, options = trainer.get_optimizer_cls_and_kwargs(trainer.args)
    return InBackward(
        [kind([group], **options) for group in _groups(trainer) for group in _apart(group)]
    )


def _apart(group: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**group, "params": [weight]} for weight in group["params"]]


def _groups(trainer: Any) -> list[dict[str, Any]]:
    """Return transformers' groups of trained weights: those that decay, and those that do not."""
    decaying = set(trainer.get_decay_parameter_names(trainer.model))
    trained = [(n, p) for n, p in trainer.model.named_parameters() if p.requires_grad]
    decay = trainer.args.weight_decay
    groups: list[dict[str, Any]] = [
        {"params": [p for n, p in trained if n in decaying], "weight_decay": decay},
        {"params": [p for n, p in trained if n not in decaying], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _muon(trainer: Any) -> Joined:
    """Return PyTorch's Muon for matrices, AdamW for vectors, embedding and head (arXiv:2502.16982).

    Muon's steps are scaled to the size of AdamW's, so that both take the same learning rate.
    """
    tables = {id(weight) for weight in embedding_parameters(trainer.model)}

    def suits(weight: torch.Tensor) -> bool:
        return weight.ndim == 2 and id(weight) not in tables

    kind, options = trainer.get_optimizer_cls_and_kwargs(trainer.args)
    groups = _groups(trainer)
    matrices = [{**g, "params": [p for p in g["params"] if suits(p)]} for g in groups]
    others = [{**g, "params": [p for p in g["params"] if not suits(p)]} for g in groups]
    rest = [group for group in others if group["params"]]
    muon = torch.optim.Muon(
        [group for group in matrices if group["params"]],
        lr=trainer.args.learning_rate,
        adjust_lr_fn="match_rms_adamw",
    )
    return Joined([muon, *([kind(rest, **options)] if rest else [])])
