"""Gated linear unit: SwiGLU and GEGLU."""

from typing import Literal, get_args

from torch import Tensor

from strop.core.dispatch import choose, differentiable
from strop.core.errors import ShapeError, UnsupportedError
from strop.ops.glu import autograd, eager, reference

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


def _triton() -> autograd.Passes:
    from strop.ops.glu import triton

    return triton


_eager: autograd.Passes = eager
IMPLS, passes = differentiable(autograd.glu, _triton, _eager, reference.glu)
"""Implementations, fastest first; passes for tensors, as the halves of a block call them."""
