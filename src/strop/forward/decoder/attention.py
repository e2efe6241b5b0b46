"""Attention of transformers' blocks among segments, in place of a mask.

`in_use(model)` switches a model to the attention registered as "strop" for one call, so that every
other call of the model, generation included, computes what it always did.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from strop.core.errors import UnsupportedError
from strop.ops.segment_attention import segment_attention
from strop.ops.segment_attention.segments import Segments

NAME = "strop"


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Segments,
    **settings: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend among segments (query [1, H, N, C], key and value [1, K, N, C]).

    Returns:
        [1, N, H, C] and None in place of the attention weights.

    Raises:
        UnsupportedError: this kind of attention has no form for segments.
    """
    if settings.get("s_aux") is not None or getattr(module, "is_causal", True) is False:
        raise UnsupportedError(
            f"{type(module).__name__} attends with sinks or not causally; "
            "strop's compact forward does not serve it"
        )
    if settings.get("dropout"):
        raise UnsupportedError(f"{type(module).__name__} drops attention weights at random")
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # as for torch's own attention
        dtype = torch.get_autocast_dtype(kind)
        query, key, value = (t.to(dtype) for t in (query, key, value))
    with torch.autocast(kind, enabled=False):
        attended = segment_attention(
            query[0].transpose(0, 1),
            key[0].transpose(0, 1),
            value[0].transpose(0, 1),
            segments,
            scale=settings.get("scaling"),
            window=settings.get("sliding_window"),
            softcap=settings.get("softcap"),
        )
    return attended[None], None


def no_mask(like: Tensor) -> Tensor:
    """Return an empty 4-d mask: transformers passes those on as they are."""
    return like.new_empty(1, 1, 0, 0)


@contextlib.contextmanager
def in_use(model: nn.Module) -> Iterator[None]:
    """Let `model` attend among segments inside the block."""
    AttentionInterface.register(NAME, attention)
    configs: dict[int, Any] = {
        id(m.config): m.config for m in model.modules() if hasattr(m, "config")
    }
    before = [(config, config._attn_implementation) for config in configs.values()]
    for config, _ in before:
        config._attn_implementation = NAME
    try:
        yield
    finally:
        for config, name in before:
            config._attn_implementation = name
