"""What is wrong with the settings of the optimizer."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strop.planning.settings import Settings

MUON = "muon"
"""PyTorch's Muon, for which transformers has no name."""


def problems(settings: "Settings") -> Iterator[str]:
    """Yield what is wrong with the settings of the optimizer."""
    if settings.optimizer and settings.trainer.get("optim"):
        yield "optimizer and trainer.optim are both given; leave one of them out"
    several = [n for n in ("loraplus_lr_ratio", "embedding_learning_rate") if getattr(settings, n)]
    if several and settings.optimizer == MUON:
        yield f"{several[0]} and optimizer {MUON} exclude one another; leave one of them out"
    if settings.train_embeddings and settings.optimizer == MUON:
        yield f"optimizer {MUON} is of matrices, and train_embeddings of tables; leave one of them out"
    if not settings.update_in_backward:
        return
    if settings.adapter != "none":
        yield "update_in_backward is of adapter none; the gradients of an adapter take little memory"
    if settings.max_grad_norm:
        yield (
            f"max_grad_norm is {settings.max_grad_norm:g}, and clipping needs all gradients at once, which "
            "update_in_backward never has: add --max-grad-norm 0"
        )
    if settings.micro_batch_tokens is not None:
        yield "micro_batch_tokens divides a step, and update_in_backward takes it in one; leave one out"
    if not settings.accelerate:
        yield (
            "accelerate is false, which takes a step row by row, and update_in_backward in one; leave one "
            "of them out"
        )
    if several or settings.optimizer == MUON:
        name = several[0] if several else f"optimizer {MUON}"
        yield f"{name} and update_in_backward exclude one another; leave one of them out"
    steps = settings.trainer.get("gradient_accumulation_steps")
    if steps not in (None, 1):
        yield f"trainer.gradient_accumulation_steps is {steps}, and update_in_backward takes a step in one"
