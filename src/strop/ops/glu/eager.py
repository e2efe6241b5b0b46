"""Gated linear unit on any device: one pass forward, one backward that recomputes the activation.

In float32 and bfloat16 on a CPU by C++ (`cpu.cpp`), else in plain PyTorch.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from strop.core import native

SOURCE = Path(__file__).with_name("cpu.cpp")
SIGNATURES = {"glu_forward": "ppqqqqii", "glu_backward": "ppppqqqqqqii"}
NUMBERS = {"silu": 0, "gelu_tanh": 1, "gelu": 2}
"""Numbers of the activations in cpu.cpp."""

BLOCK_BYTES = 1_000_000
"""Rows taken at once by the plain formulas, so that their temporaries stay in the cache."""


def forward(gate_up: Tensor, activation: str, *, out: Tensor | None = None) -> Tensor:
    """Return act [N, F] of gate_up [N, 2F], without autograd; in `out`, contiguous, if given."""
    N, width = gate_up.shape
    act = gate_up.new_empty(N, width // 2) if out is None else out
    if (run := _compiled("glu_forward", gate_up)) is not None:
        gate_up = _neighbours(gate_up)
        run(
            gate_up, act, N, width // 2, gate_up.stride(0), act.stride(0),
            NUMBERS[activation], torch.get_num_threads(),
        )  # fmt: skip
        return act
    for rows in _blocks(gate_up):
        gate, up = gate_up[rows].chunk(2, dim=-1)
        torch.mul(_activated(gate, activation), up, out=act[rows])
    return act


def backward(
    dact: Tensor,
    gate_up: Tensor,
    activation: str,
    *,
    act: Tensor | None = None,
    overwrite: bool = False,
) -> Tensor:
    """Return the gradient of `gate_up`, without autograd; in the same pass act can be computed again.

        dgate = dact * up * activation'(gate)        dup = dact * activation(gate)

    Args:
        dact: [N, F].
        gate_up: [N, 2F] as given to `forward`.
        activation: as given to `forward`.
        act: [N, F] contiguous, where act is written; None leaves it out.
        overwrite: write the gradient over `gate_up` and return that.

    Returns:
        dgate_up [N, 2F].
    """
    wide = torch.promote_types(gate_up.dtype, torch.float32)
    dgate_up = gate_up if overwrite else gate_up.new_empty(gate_up.shape)
    if (run := _compiled("glu_backward", dact, gate_up, dgate_up)) is not None:
        dact, gate_up = _neighbours(dact), _neighbours(gate_up)
        run(
            dact, gate_up, dgate_up, act, *dact.shape,
            dact.stride(0), gate_up.stride(0), dgate_up.stride(0), dact.shape[1],
            NUMBERS[activation], torch.get_num_threads(),
        )  # fmt: skip
        return dgate_up
    for rows in _blocks(gate_up):
        gate, up = gate_up[rows].chunk(2, dim=-1)
        value = _activated(gate, activation)
        if act is not None:
            torch.mul(value, up, out=act[rows])
        upstream = dact[rows].to(wide)
        dgate = upstream * up * _slope(gate.to(wide), activation)
        dup = upstream * value
        dgate_up[rows].copy_(torch.cat((dgate, dup), dim=-1))
    return dgate_up


def _compiled(name: str, *tensors: Tensor) -> Callable[..., None] | None:
    """Return a function of cpu.cpp if it can take the tensors, the last of which it may write."""
    if name == "glu_backward" and tensors[-1].stride(-1) != 1:
        return None
    return native.function_for(SOURCE, name, SIGNATURES[name], *tensors)


def _neighbours(t: Tensor) -> Tensor:
    """Return `t` with the features of a row side by side in memory."""
    return t if t.stride(-1) == 1 else t.contiguous()


def _blocks(gate_up: Tensor) -> Iterator[slice]:
    N, width = gate_up.shape
    rows = max(1, BLOCK_BYTES // max(1, width * gate_up.element_size()))
    for start in range(0, N, rows):
        yield slice(start, min(start + rows, N))


def _activated(gate: Tensor, activation: str) -> Tensor:
    if activation == "silu":
        return F.silu(gate)
    return F.gelu(gate, approximate="tanh" if activation == "gelu_tanh" else "none")


def _slope(gate: Tensor, activation: str) -> Tensor:
    """Return the derivative of the activation at `gate`."""
    if activation == "silu":
        sigmoid = gate.sigmoid()
        return sigmoid * (1 + gate * (1 - sigmoid))
    if activation == "gelu":
        density = torch.exp(-0.5 * gate.square()) / math.sqrt(2 * math.pi)
        return 0.5 * (1 + torch.erf(gate / math.sqrt(2))) + gate * density
    factor, cubic = math.sqrt(2 / math.pi), 0.044715
    square = gate.square()
    tanh = torch.tanh(factor * gate * (1 + cubic * square))
    inner = factor * (1 + 3 * cubic * square)
    return 0.5 * (1 + tanh + gate * (1 - tanh.square()) * inner)
