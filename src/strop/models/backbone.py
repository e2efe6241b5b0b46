"""From kept tokens to the hidden rows that the head scores, through transformers' own blocks."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from strop.core.errors import ConfigError
from strop.models import attention
from strop.models.adapters import drops_out
from strop.models.kept_tokens import KeptTokens

POLICIES = ("auto", "keep", "checkpoint", "offload")


@dataclass(slots=True)
class Backbone:
    """Runs the decoder of `model` on one row of kept tokens."""

    model: Any
    policy: str

    def shares_prefixes(self) -> bool:
        """Say whether a shared prefix may be computed once: not where dropout makes copies differ."""
        return not (self.model.training and drops_out(self.model))

    def __call__(self, kept: KeptTokens) -> Tensor:
        """Return the hidden rows [M, D] that predict the labels."""
        embedded = self.model.get_input_embeddings()(kept.tokens)
        if not any(p.requires_grad for p in self.model.get_input_embeddings().parameters()):
            embedded = embedded.detach()  # nothing below the lowest adapter wants a gradient
        with attention.in_use(self.model), _checkpointing(self.model, self.policy == "checkpoint"):
            decoded = self.model.base_model(
                inputs_embeds=embedded[None],
                position_ids=kept.positions[None],
                attention_mask=embedded.new_empty(1, 1, 0, 0),  # a 4-d mask is passed on as it is
                use_cache=False,
                segments=kept.segments,
            )
        hidden: Tensor = decoded.last_hidden_state[0].index_select(0, kept.rows)
        return hidden


def attach(model: nn.Module, *, policy: str) -> tuple[Backbone, Callable[[], None]]:
    """Return the backbone of `model` and the function that takes it out again.

    Raises:
        ConfigError: `policy` is unknown.
    """
    if policy not in POLICIES:
        raise ConfigError(f"policy is {policy!r}; it must be one of {', '.join(POLICIES)}")
    return Backbone(model, policy), lambda: None


@contextlib.contextmanager
def _checkpointing(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Let every block keep only its input, or everything, whatever the trainer switched on."""
    blocks: list[Any] = [m for m in model.modules() if hasattr(m, "gradient_checkpointing")]
    before = [(m, m.gradient_checkpointing) for m in blocks]
    for block in blocks:
        block.gradient_checkpointing = wanted
        if wanted:
            block._gradient_checkpointing_func = functools.partial(_checkpoint, model)
    try:
        yield
    finally:
        for block, was in before:
            block.gradient_checkpointing = was


def _checkpoint(model: nn.Module, function: Callable[..., Tensor], *args: Any) -> Any:
    def again(*inputs: Any) -> Tensor:
        with attention.in_use(model):  # runs a second time during backward
            return function(*inputs)

    return torch.utils.checkpoint.checkpoint(again, *args, use_reentrant=False)
