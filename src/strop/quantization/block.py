"""A decoder as a row of blocks that run one at a time, so that only one need be at hand."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from strop.quantization.linear_layers import linear_layers

COMPUTE = torch.float32
"""Blocks compute in it, whatever their weights are stored in."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a block is called with besides the hidden rows; the same for all sequences."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decoder:
    """The blocks of a causal language model and how they are called on T tokens."""

    blocks: Sequence[nn.Module]
    names: Sequence[str]
    """Of each block in the model, such as `model.layers.0`."""
    calls: Sequence[Call]
    logits: Callable[[Tensor], Tensor]
    """From the hidden rows [N, D] behind the last block to logits [N, V]."""

    def linears(self, i: int) -> dict[str, nn.Linear]:
        """Return the linear layers of block i by their names in the model."""
        return linear_layers(self.blocks[i], self.names[i])

    def copied(self, i: int) -> "Block":
        """Return block i with weights of its own in `COMPUTE`."""
        module = copy.deepcopy(self.blocks[i]).to(COMPUTE).requires_grad_(False)
        return Block(self.names[i], module, self.calls[i])


@dataclass(frozen=True, slots=True)
class Block:
    """A block whose weights may be changed."""

    name: str
    module: nn.Module
    call: Call

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the rows behind the block [B, T, D] for those before it."""
        output = self.module(hidden, *self.call.args, **self.call.kwargs)
        rows: Tensor = output[0] if isinstance(output, tuple) else output
        return rows

    @property
    def linears(self) -> dict[str, nn.Linear]:
        """Return the linear layers by their names in the model."""
        return linear_layers(self.module, self.name)
