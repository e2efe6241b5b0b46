"""Rotary position embedding."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from strop.core.dispatch import Impl, choose, triton_obstacle
from strop.core.errors import ShapeError


def rope(x: Tensor, cos: Tensor, sin: Tensor, *, impl: str | None = None) -> Tensor:
    """Rotate feature p with feature P + p of each head by the angle of the row's position.

        y[n, h, p] = x[n, h, p] * cos[n, p] - x[n, h, P + p] * sin[n, p]
        y[n, h, P + p] = x[n, h, P + p] * cos[n, p] + x[n, h, p] * sin[n, p]
        y[n, h, c] = x[n, h, c]                                           for c at or above 2 P

    This is transformers' `rotate_half` convention with one copy of each angle instead of two.
    Kept for backward: `cos` and `sin`.

    Args:
        x: [N, H, C] floating point, any strides.
        cos: [N, P] with 2 P at most C; a constant, no gradient flows to it.
        sin: [N, P]; a constant.
        impl: run this implementation or raise; None takes the first that can.

    Returns:
        [N, H, C], contiguous, the dtype of `x`.

    Raises:
        ShapeError: the tensors do not fit each other.
        UnsupportedError: `impl` is unknown or cannot run here.
    """
    fits = (
        x.ndim == 3
        and cos.ndim == 2
        and cos.shape == sin.shape
        and cos.shape[0] == x.shape[0]
        and 2 * cos.shape[1] <= x.shape[2]
    )
    if not fits:
        raise ShapeError(
            "rope takes x [N, H, C], cos [N, P] and sin [N, P] with 2 P at most C; "
            f"got x {list(x.shape)}, cos {list(cos.shape)} and sin {list(sin.shape)}"
        )
    return choose(IMPLS, impl, x, cos, sin)(x, cos.detach(), sin.detach())


def _cpu_obstacle(x: Tensor, cos: Tensor, sin: Tensor) -> str | None:
    if x.device.type != "cpu":
        return f"it needs CPU tensors, x is on {x.device.type}"
    if torch.compiler.is_compiling():
        return "torch.compile cannot see into it"
    return None


def _load_triton() -> Callable[..., Tensor]:
    from strop.ops.rope.triton import rope

    return rope


def _load_cpu() -> Callable[..., Tensor]:
    from strop.ops.rope.cpu import rope

    return rope


def _load_reference() -> Callable[..., Tensor]:
    from strop.ops.rope.reference import rope

    return rope


IMPLS = (
    Impl("triton", _load_triton, triton_obstacle),
    Impl("cpu", _load_cpu, _cpu_obstacle),
    Impl("reference", _load_reference),
)
"""Fastest first."""


class Passes(Protocol):
    """The rotation without autograd, as the halves of a block call it."""

    def rotate_(self, x: Tensor, cos: Tensor, sin: Tensor, inverse: bool = False) -> Tensor:
        """Rotate x in place; see `strop.ops.rope.cpu.rotate_`."""


def passes(x: Tensor) -> Passes:
    """Return the module whose passes run on tensors like `x`: kernels on a GPU, else "cpu"."""
    if triton_obstacle(x) is None:
        from strop.ops.rope import triton

        return triton
    from strop.ops.rope import cpu

    return cpu
