"""Attention by C++ in float32 and bfloat16: every segment, parent, window and soft-cap in one call."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from strop.core import native, work
from strop.ops.segment_attention.segments import Segments
from strop.ops.segment_attention.settings import Settings

SOURCE = Path(__file__).with_name("cpu.cpp")
_FORWARD = "pppppp" + "qqqqq" + "qqq" + "qffi"
_BACKWARD = "pppppp" + "pppp" + "qqqqq" + "p" + "qffi"


def can_run(q: Tensor) -> bool:
    """Return whether there is compiled code for tensors like `q`."""
    return (
        q.device.type == "cpu" and q.dtype in native.FORMATS and native.library(SOURCE) is not None
    )


def forward(q: Tensor, k: Tensor, v: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Return the output [N, H, C] and the log-sum-exp [H, N]."""
    (N, H, C), K = q.shape, k.shape[1]
    out, lse = q.new_empty(N, H, C), q.new_empty(H, N, dtype=torch.float32)
    q, k, v = (_by_rows(t) for t in (q, k, v))
    table = _rows_of(settings.segments)
    work.did(4 * H * C * settings.pairs())
    _function("attention_forward", _FORWARD, q)(
        q, k, v, out, lse, table, len(table), N, H, K, C, q.stride(0), k.stride(0), v.stride(0),
        settings.window or 0, settings.scale, settings.softcap or 0.0, torch.get_num_threads(),
    )  # fmt: skip
    return out, lse


def backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    settings: Settings,
    into: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Write the gradients of q, k and v into the three tensors of `into`."""
    (N, H, C), K = q.shape, k.shape[1]
    dout, out = dout.contiguous(), out.contiguous()
    q, k, v = (_by_rows(t) for t in (q, k, v))
    by_rows = tuple(_by_rows(t) for t in into)
    strides = torch.tensor([t.stride(0) for t in (q, k, v, *by_rows)])
    table = _rows_of(settings.segments)
    work.did(10 * H * C * settings.pairs())
    _function("attention_backward", _BACKWARD, q)(
        dout, q, k, v, out, lse, *by_rows, table, len(table), N, H, K, C, strides,
        settings.window or 0, settings.scale, settings.softcap or 0.0, torch.get_num_threads(),
    )  # fmt: skip
    for target, written in zip(into, by_rows, strict=True):
        if written is not target:
            target.copy_(written)


def _function(name: str, signature: str, q: Tensor) -> Callable[..., None]:
    compiled = native.function_for(SOURCE, name, signature, q)
    assert compiled is not None
    return compiled


def _by_rows(x: Tensor) -> Tensor:
    """Return x [N, H, C], copied where its heads do not stand side by side in each row."""
    return x if x.stride()[1:] == (x.shape[2], 1) else x.contiguous()


def _rows_of(segments: Segments) -> Tensor:
    """Return start, length, depth and parent (-1: none) of each segment [R, 4]."""
    parents = (-1 if parent is None else parent for parent in segments.parents)
    rows = zip(segments.starts, segments.lengths, segments.offsets, parents, strict=True)
    return torch.tensor(list(rows), dtype=torch.int64).view(len(segments.lengths), 4)
