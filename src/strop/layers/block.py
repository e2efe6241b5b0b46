"""A decoder block of two halves under a policy that says what is kept for backward.

keep        each half keeps what its products took in; element-wise things are computed again
checkpoint  the block keeps its input [N, D] only and computes itself again in backward
offload     as checkpoint, with the input in a file and nothing in memory

Dropout's masks are kept under every policy. A block that nothing is trained in, on an input that
needs no gradient, keeps nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.autograd import Function

from strop.layers.attention_half import AttentionHalf
from strop.layers.mlp_half import MlpHalf
from strop.layers.spill import Spill
from strop.ops.lora_linear.cpu import Gradients

Half = AttentionHalf | MlpHalf


@dataclass(frozen=True, slots=True)
class Block:
    """The two halves of a block, and the file for its input where the policy is "offload"."""

    attention: AttentionHalf
    mlp: MlpHalf
    spill: Spill | None = None


def run_half(half: Half, x: Tensor) -> Tensor:
    """Run one half on x [N, D], keeping what its products took in."""
    y: Tensor = _KeptHalf.apply(x, half, *half.trained)
    return y


def run_block(block: Block, x: Tensor) -> Tensor:
    """Run a block on x [N, D], keeping x only."""
    trained = block.attention.trained + block.mlp.trained
    y: Tensor = _CheckpointedBlock.apply(x, block, *trained)
    return y


class _KeptHalf(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, half: Half, *trained: Tensor) -> Tensor:
        masks = half.masks(x)
        y, kept = half.run(x, masks)
        assert y is not None
        if any(ctx.needs_input_grad):
            ctx.half, ctx.masks = half, masks
            ctx.save_for_backward(x, *kept)
        return y

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> tuple[Tensor | None, ...]:
        x, *kept = ctx.saved_tensors
        needs = ctx.needs_input_grad[0]
        dx, gradients = ctx.half.gradients(dy[0], x, tuple(kept), ctx.masks, x_needs_grad=needs)
        return dx, None, *_wanted(gradients, ctx.needs_input_grad[2:])


class _CheckpointedBlock(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, block: Block, *trained: Tensor) -> Tensor:
        attention_masks = block.attention.masks(x)
        middle, _ = block.attention.run(x, attention_masks)
        assert middle is not None
        mlp_masks = block.mlp.masks(middle)
        y, _ = block.mlp.run(middle, mlp_masks)
        assert y is not None
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
        middle, kept = block.attention.run(x, attention_masks)
        assert middle is not None
        _, mlp_kept = block.mlp.run(middle, mlp_masks, finish=False)
        dmiddle, mlp_gradients = block.mlp.gradients(
            dy[0], middle, mlp_kept, mlp_masks, x_needs_grad=True
        )
        del middle, mlp_kept
        assert dmiddle is not None
        needs = ctx.needs_input_grad[0]
        dx, gradients = block.attention.gradients(
            dmiddle, x, kept, attention_masks, x_needs_grad=needs
        )
        return dx, None, *_wanted(gradients + mlp_gradients, ctx.needs_input_grad[2:])


def _wanted(gradients: Gradients, needed: Sequence[bool]) -> Gradients:
    return [g if wanted else None for g, wanted in zip(gradients, needed, strict=True)]
