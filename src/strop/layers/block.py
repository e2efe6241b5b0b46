"""A decoder block of two halves whose activations are kept, recomputed or offloaded.

keep        each half keeps what its products took in; element-wise things are computed again
checkpoint  the block keeps its input [N, D] only and computes itself again in backward
offload     as checkpoint, with the input in a file and nothing in memory; of a block on a card the input
            is in the machine's memory, and nothing on the card

All computation is in the dtype of the input: a surrounding autocast is ignored.
Dropout's masks are kept in every mode of activations. A block that nothing is trained in, on an input that
needs no gradient, keeps nothing.

Under "checkpoint" and "offload" the MLP half of more than `CHUNK` tokens runs a chunk of n tokens at a
time, in backward too: beside its result, [N, D] of output or of the input's gradient, it makes at most

    forward   n (2 D + 3 F + 1)        backward   n (2 D + 6 F + 3 R + 2)

numbers at once, in float32 without dropout or a post-norm and not counting what belongs to the weights.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import Function

from strop.core.system.spill import Spill
from strop.layers.mlp_half import MlpHalf
from strop.ops.lora_linear import eager as linear
from strop.ops.lora_linear.parts import Gradients

Masks = tuple[linear.Masks, linear.Masks]


class Half(Protocol):
    """`AttentionHalf` or `MlpHalf`, or what stands in the place of the first."""

    @property
    def trained(self) -> tuple[Tensor, ...]:
        """The tensors that can want a gradient, in the order of `gradients`."""

    def masks(self, x: Tensor) -> Any:
        """Draw what decides the dropout inside."""

    def run(
        self, x: Tensor, masks: Any, *, finish: bool = True
    ) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        """Return y [N, D] and what `gradients` needs beside x."""

    def gradients(
        self, dy: Tensor, x: Tensor, kept: tuple[Tensor, ...], masks: Any, *, x_needs_grad: bool
    ) -> tuple[Tensor | None, Gradients]:
        """Return the gradient of x [N, D], or None, and those of `trained`."""


CHUNK = 2048
"""Largest number of tokens of a chunk: enough that making the dense weights again costs little."""


@dataclass(frozen=True, slots=True)
class Block:
    """The two halves of a block, and the file for its input where activations are offloaded."""

    attention: Half
    mlp: MlpHalf
    spill: Spill | None = None


def run_half(half: Half, x: Tensor) -> Tensor:
    """Run one half on x [N, D], keeping what its products took in."""
    with torch.autocast(x.device.type, enabled=False):
        y: Tensor = _KeptHalf.apply(x, half, *half.trained)
    return y


def run_block(block: Block, x: Tensor) -> Tensor:
    """Run a block on x [N, D], keeping x only."""
    trained = block.attention.trained + block.mlp.trained
    with torch.autocast(x.device.type, enabled=False):
        y: Tensor = _CheckpointedBlock.apply(x, block, *trained)
    return y


def run_mlp(half: MlpHalf, x: Tensor) -> Tensor:
    """Run the MLP half on x [N, D], keeping x only."""
    with torch.autocast(x.device.type, enabled=False):
        y: Tensor = _CheckpointedMlp.apply(x, half, *half.trained)
    return y


class _KeptHalf(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, half: Half, *trained: Tensor) -> Tensor:
        masks = half.masks(x)
        y, saved = half.run(x, masks)
        assert y is not None
        if any(ctx.needs_input_grad):
            ctx.half, ctx.masks = half, masks
            ctx.save_for_backward(x, *saved)
        return y

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        needs = ctx.needs_input_grad[0]
        dx, gradients = ctx.half.gradients(dy[0], x, tuple(saved), ctx.masks, x_needs_grad=needs)
        return dx, None, *_needed(gradients, ctx.needs_input_grad[2:])


class _CheckpointedBlock(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, block: Block, *trained: Tensor) -> Tensor:
        attention_masks = block.attention.masks(x)
        middle, _ = block.attention.run(x, attention_masks)
        assert middle is not None
        mlp_masks = block.mlp.masks(middle)
        y = _run_chunks(block.mlp, middle, mlp_masks)
        if any(ctx.needs_input_grad):
            ctx.block, ctx.masks = block, (attention_masks, mlp_masks)
            if block.spill is None:
                ctx.save_for_backward(x)
            else:
                ctx.place = block.spill.put(x)
        return y

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> tuple[Tensor | None, ...]:
        block: Block = ctx.block
        x = ctx.saved_tensors[0] if block.spill is None else block.spill.take(ctx.place)
        attention_masks, mlp_masks = ctx.masks
        middle, saved = block.attention.run(x, attention_masks)
        assert middle is not None
        dmiddle, mlp_gradients = _chunk_gradients(
            block.mlp, dy[0], middle, mlp_masks, x_needs_grad=True
        )
        del middle
        assert dmiddle is not None
        needs = ctx.needs_input_grad[0]
        dx, gradients = block.attention.gradients(
            dmiddle, x, saved, attention_masks, x_needs_grad=needs
        )
        return dx, None, *_needed(gradients + mlp_gradients, ctx.needs_input_grad[2:])


class _CheckpointedMlp(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, half: MlpHalf, *trained: Tensor) -> Tensor:
        masks = half.masks(x)
        if any(ctx.needs_input_grad):
            ctx.half, ctx.masks = half, masks
            ctx.save_for_backward(x)
        return _run_chunks(half, x, masks)

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        needs = ctx.needs_input_grad[0]
        dx, gradients = _chunk_gradients(ctx.half, dy[0], x, ctx.masks, x_needs_grad=needs)
        return dx, None, *_needed(gradients, ctx.needs_input_grad[2:])


def _chunks(x: Tensor, masks: Masks) -> Iterator[tuple[slice, Masks]]:
    """Yield the rows of each chunk, all about as long, and its part of the masks."""
    N = len(x)
    size = math.ceil(N / max(1, math.ceil(N / CHUNK)))
    for start in range(0, N, max(1, size)):
        rows = slice(start, min(start + size, N))
        first, second = (
            tuple(None if mask is None else mask[rows] for mask in group) for group in masks
        )
        yield rows, (first, second)


def _run_chunks(half: MlpHalf, x: Tensor, masks: Masks) -> Tensor:
    """Return y [N, D]."""
    if len(x) <= CHUNK:
        y, _ = half.run(x, masks)
        assert y is not None
        return y
    out = x.new_empty(x.shape)
    for rows, chunk_masks in _chunks(x, masks):
        y = half.run(x[rows], chunk_masks)[0]
        assert y is not None
        out[rows] = y
        del y  # else it lives while the next chunk runs
    return out


def _chunk_gradients(
    half: MlpHalf, dy: Tensor, x: Tensor, masks: Masks, *, x_needs_grad: bool
) -> tuple[Tensor | None, Gradients]:
    """Run the half again and return the gradient of x [N, D], or None, and those of `trained`."""
    dx = x.new_empty(x.shape) if x_needs_grad and len(x) > CHUNK else None
    total: Gradients = []
    for rows, chunk_masks in _chunks(x, masks):
        _, saved = half.run(x[rows], chunk_masks, finish=False)
        part, gradients = half.gradients(
            dy[rows], x[rows], saved, chunk_masks, x_needs_grad=x_needs_grad
        )
        if part is not None and dx is None:
            dx = part
        elif part is not None and dx is not None:
            dx[rows] = part
        total = [*map(_sum, total, gradients)] if total else gradients
        del saved, part  # else they live while the next chunk runs
    return dx, total


def _sum(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    if total is None or part is None:
        return part if total is None else total
    return total.add_(part)


def _needed(gradients: Gradients, needed: Sequence[bool]) -> Gradients:
    return [g if needs else None for g, needs in zip(gradients, needed, strict=True)]
