"""What blocks keep for backward that run through their own forward: their inputs, or everything."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from strop.forward.decoder import attention, experts, mixers
from strop.ops.segment_attention.segments import Segments


@contextlib.contextmanager
def checkpointing(model: nn.Module, enabled: bool, function: Callable[..., Any]) -> Iterator[None]:
    """Let every block keep only its input, or everything, whatever the trainer switched on."""
    switches: list[Any] = [m for m in model.modules() if hasattr(m, "gradient_checkpointing")]
    names = ("gradient_checkpointing", "_gradient_checkpointing_func")
    before = [{n: vars(m)[n] for n in names if n in vars(m)} for m in switches]
    for block in switches:
        block.gradient_checkpointing = enabled
        if enabled:
            block._gradient_checkpointing_func = function
    try:
        yield
    finally:
        for block, was in zip(switches, before, strict=True):
            for name in names:
                vars(block).pop(name, None)
            vars(block).update(was)


def checkpoint(function: Callable[..., Tensor], *args: Any) -> Any:
    """Keep the inputs of a function alone, and run it again for backward."""
    return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=False)


def checkpoint_grouped(model: nn.Module, function: Callable[..., Tensor], *args: Any) -> Any:
    """Do the same with experts grouped, the second time too."""

    def again(*inputs: Any) -> Tensor:
        with experts.grouped(model):
            return function(*inputs)

    return checkpoint(again, *args)


def checkpoint_among_segments(
    model: nn.Module, segments: Segments, function: Callable[..., Tensor], *args: Any
) -> Any:
    """Do the same among segments."""

    def again(*inputs: Any) -> Tensor:
        # runs a second time during backward
        with (
            attention.in_use(model),
            mixers.by_segments(model, segments),
            experts.grouped(model),
        ):
            return function(*inputs)

    return checkpoint(again, *args)
