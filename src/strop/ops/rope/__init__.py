"""Rotary position embedding."""

from torch import Tensor

from strop.core.dispatch import choose, differentiable
from strop.core.errors import ShapeError
from strop.ops.rope import autograd, eager, reference


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


def _triton() -> autograd.Passes:
    from strop.ops.rope import triton

    return triton


_eager: autograd.Passes = eager
IMPLS, passes = differentiable(autograd.rope, _triton, _eager, reference.rope)
"""Implementations, fastest first; passes for tensors, as the halves of a block call them."""
