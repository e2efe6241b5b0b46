"""A transformers model taken apart into blocks that run one at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from strop.core.errors import UnsupportedError
from strop.forward.head import Head
from strop.quantization.block import COMPUTE, Call, Decoder


@torch.no_grad()
def take_apart(model: Any, sequences: Sequence[Tensor]) -> tuple[Decoder, list[Tensor]]:
    """Return the decoder of a model and what its first block is given for each sequence.

    Args:
        model: a causal language model of transformers; unchanged when this returns.
        sequences: token ids [T] each, all of one length.

    Returns:
        The decoder for sequences of T tokens, and the hidden rows [1, T, D] of each.

    Raises:
        UnsupportedError: the model keeps its blocks elsewhere than in `layers`.
    """
    inner = model.get_decoder()
    blocks = getattr(inner, "layers", None)
    if not isinstance(blocks, nn.ModuleList) or not len(blocks):
        raise UnsupportedError(
            f"{type(model).__name__} keeps no list of blocks in `layers`; it cannot be quantised"
        )
    recorders = [_Recorder(block) for block in blocks]
    inner.layers = nn.ModuleList(recorders)
    try:
        hidden = [_entered(inner, recorders[0], ids) for ids in sequences]
    finally:
        inner.layers = blocks
    prefix = next(name for name, module in model.named_modules() if module is blocks)
    names = [f"{prefix}.{i}" for i in range(len(blocks))]
    calls = [_in_compute_dtype(r.call) for r in recorders if r.call is not None]
    return Decoder(list(blocks), names, calls, _logits(model, inner)), hidden


def _entered(inner: Any, first: "_Recorder", ids: Tensor) -> Tensor:
    inner(input_ids=ids[None], use_cache=False)
    assert first.hidden is not None
    return first.hidden.to(COMPUTE)


class _Recorder(nn.Module):
    """Stands in a block's place, notes what the block would be called with, and passes it on."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.__dict__["block"] = block  # not as a part: its weights stay where they are
        self.call: Call | None = None
        self.hidden: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        """Answer for the block, which decoders ask for the kind of its attention."""
        return getattr(self.__dict__["block"], name)

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.hidden = hidden
        self.call = Call(args, kwargs)
        return hidden


def _in_compute_dtype(call: Call) -> Call:
    return Call(
        tuple(_cast(value) for value in call.args),
        {name: _cast(value) for name, value in call.kwargs.items()},
    )


def _cast(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(COMPUTE)
    return tuple(map(_cast, value)) if isinstance(value, tuple) else value


def _logits(model: Any, inner: Any) -> Callable[[Tensor], Tensor]:
    head = Head.of(model)

    def logits(hidden: Tensor) -> Tensor:
        assert head.weight is not None
        bias = None if head.bias is None else head.bias.to(COMPUTE)
        z = head.scale * F.linear(inner.norm(hidden), head.weight.to(COMPUTE), bias)
        return z if head.softcap is None else head.softcap * torch.tanh(z / head.softcap)

    return logits
