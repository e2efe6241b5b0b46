"""Gated linear unit: SwiGLU and GEGLU."""

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from strop.core.dispatch import Impl, choose, triton_obstacle
from strop.core.errors import ShapeError, UnsupportedError
from strop.ops.glu import autograd

Activation = Literal["silu", "gelu_tanh", "gelu"]
"""`gelu_tanh` is the approximation that transformers calls `gelu_pytorch_tanh`."""


def glu(gate_up: Tensor, activation: Activation, *, impl: str | None = None) -> Tensor:
    """Multiply the activated first half of each row by its second half.

        act[n, f] = activation(gate_up[n, f]) * gate_up[n, F + f]

    Kept for backward: `gate_up`.

    Args:
        gate_up: [N, 2F] floating point, any strides.
        activation: the function on the gate.
        impl: run this implementation or raise; None takes the first that can.

    Returns:
        [N, F], contiguous, the dtype of `gate_up`.

    Raises:
        ShapeError: `gate_up` is not a matrix with an even number of columns.
        UnsupportedError: `activation` or `impl` is unknown, or `impl` cannot run here.
    """
    if gate_up.ndim != 2 or gate_up.shape[1] % 2:
        raise ShapeError(f"glu takes gate_up [N, 2F]; got {list(gate_up.shape)}")
    if activation not in get_args(Activation):
        known = ", ".join(map(repr, get_args(Activation)))
        raise UnsupportedError(f"glu has no activation {activation!r}; it has {known}")
    return choose(IMPLS, impl, gate_up)(gate_up, activation)


def _cpu_obstacle(gate_up: Tensor) -> str | None:
    if gate_up.device.type != "cpu":
        return f"it needs CPU tensors, gate_up is on {gate_up.device.type}"
    if torch.compiler.is_compiling():
        return "torch.compile cannot see into it"
    return None


def _triton() -> autograd.Passes:
    from strop.ops.glu import triton

    return triton


def _cpu() -> autograd.Passes:
    from strop.ops.glu import cpu

    return cpu


def _load_reference() -> Callable[..., Tensor]:
    from strop.ops.glu.reference import glu

    return glu


IMPLS = (
    Impl("triton", lambda: partial(autograd.glu, _triton()), triton_obstacle),
    Impl("cpu", lambda: partial(autograd.glu, _cpu()), _cpu_obstacle),
    Impl("reference", _load_reference),
)
"""Fastest first."""


def passes(gate_up: Tensor) -> autograd.Passes:
    """Return the module whose passes run on tensors like `gate_up`: kernels on a GPU, else "cpu"."""
    return _triton() if triton_obstacle(gate_up) is None else _cpu()
