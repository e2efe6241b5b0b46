"""A product of two matrices in different formats."""

from collections.abc import Callable

from torch import Tensor

from strop.core.dispatch import Impl, choose, cpu_obstacle, triton_obstacle
from strop.core.errors import ShapeError
from strop.ops.mixed_product import cpu, reference


def mixed_product(
    left: Tensor, right: Tensor, *, scale: float = 1.0, impl: str | None = None
) -> Tensor:
    """Multiply matrices of different formats in the wider of them, without autograd.

        y[n, e] = scale * sum_d left[n, d] * right[d, e]

    Every number of the narrower matrix is one of the wider format, and sums are in that or wider.
    It serves the thin products of an adapter in float32 beside activations in 16 bits.

    Args:
        left: [N, D] floating point, any strides.
        right: [D, E] floating point, any strides.
        scale: factor on the product.
        impl: run this implementation or raise; None takes the first that can.

    Returns:
        [N, E] in the wider dtype, contiguous.

    Raises:
        ShapeError: the tensors do not fit each other.
        UnsupportedError: `impl` is unknown or cannot run here.
    """
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
        raise ShapeError(
            "mixed_product takes left [N, D] and right [D, E]; "
            f"got left {list(left.shape)} and right {list(right.shape)}"
        )
    return choose(IMPLS, impl, left, right)(left, right, scale)


def _kernel_obstacle(left: Tensor, right: Tensor) -> str | None:
    if left.dtype == right.dtype:
        return "a library multiplies matrices of one format"
    return triton_obstacle(left, right)


def _compiled_obstacle(left: Tensor, right: Tensor) -> str | None:
    return cpu_obstacle(left, right) or cpu.obstacle(left, right)


def _load_triton() -> Callable[..., Tensor]:
    from strop.ops.mixed_product.triton import mixed_product

    return mixed_product


IMPLS = (
    Impl("triton", _load_triton, _kernel_obstacle),
    Impl("cpu", lambda: cpu.mixed_product, _compiled_obstacle),
    Impl("reference", lambda: reference.mixed_product),
)
"""Fastest first; the reference widens the narrower matrix and leaves the rest to a library."""
