"""Root-mean-square normalisation."""

from torch import Tensor

from strop.core.dispatch import choose, differentiable
from strop.core.errors import ShapeError
from strop.ops.rms_norm import autograd, eager, reference


def rms_norm(
    x: Tensor,
    weight: Tensor,
    *,
    eps: float = 1e-6,
    unit_offset: bool = False,
    impl: str | None = None,
) -> Tensor:
    """Scale each row of `x` to unit mean square, then multiply by `weight`.

        unit[n, d] = x[n, d] / sqrt(mean(x[n, :]**2) + eps)
        y[n, d] = unit[n, d] * weight[d]            or, with `unit_offset`, unit * (1 + weight)

    The mean and the division are in float32 or wider. `unit` is rounded to the dtype of `x`
    before the product, except with `unit_offset`: as Llama's and Gemma's own norms do it.
    Kept for backward: `x`, `weight` and one number per row.

    Args:
        x: [N, D] floating point, or [N, H, D] for a norm of each head; any strides.
        weight: [D] floating point.
        eps: keeps the division finite on rows of zeros.
        unit_offset: `weight` is the distance from one (Gemma).
        impl: run this implementation or raise; None takes the first that can.

    Returns:
        [N, D] or [N, H, D], contiguous, the dtype of `x`.

    Raises:
        ShapeError: the tensors do not fit each other.
        UnsupportedError: `impl` is unknown or cannot run here.
    """
    if x.ndim not in (2, 3) or weight.shape != x.shape[-1:]:
        raise ShapeError(
            "rms_norm takes x [N, D] or [N, H, D] and weight [D]; "
            f"got x {list(x.shape)} and weight {list(weight.shape)}"
        )
    return choose(IMPLS, impl, x, weight)(x, weight, eps, unit_offset)


def _triton() -> autograd.Passes:
    from strop.ops.rms_norm import triton

    return triton


_eager: autograd.Passes = eager
IMPLS, passes = differentiable(autograd.rms_norm, _triton, _eager, reference.rms_norm)
"""Implementations, fastest first; passes for tensors, as the halves of a block call them."""
