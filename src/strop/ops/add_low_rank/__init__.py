"""A product of low rank added to a tensor where it lies, or written there."""

from collections.abc import Callable

from torch import Tensor

from strop.core.dispatch import Impl, choose, cpu_obstacle, triton_obstacle
from strop.core.errors import ShapeError
from strop.ops.add_low_rank import cpu, eager, reference


def add_low_rank_(
    out: Tensor,
    left: Tensor,
    right: Tensor,
    *,
    scale: float = 1.0,
    overwrite: bool = False,
    impl: str | None = None,
) -> Tensor:
    """Add what an adapter of low rank contributes, without autograd.

        out[n, e] += scale * sum_r left[n, r] * right[r, e]

    With `overwrite` it is = instead of +=: in 16 bits a contribution that is small beside what `out`
    has would be rounded away, so it is written first and the wide product added to it. The sum is in
    the dtype of `left` and `right` or wider.

    Args:
        out: [N, E] floating point, any strides; overwritten.
        left: [N, R] as wide as `out` or wider.
        right: [R, E] same dtype as `left`, any strides.
        scale: factor on the product.
        overwrite: what `out` has does not count.
        impl: run this implementation or raise; None takes the first that can.

    Returns:
        [N, E] `out`.

    Raises:
        ShapeError: the tensors do not fit each other.
        UnsupportedError: `impl` is unknown or cannot run here.
    """
    fits = left.ndim == right.ndim == 2 and left.shape[1] == right.shape[0]
    if not fits or out.shape != (left.shape[0], right.shape[1]) or left.dtype != right.dtype:
        raise ShapeError(
            "add_low_rank_ takes out [N, E], left [N, R] and right [R, E] of one dtype; got out "
            f"{list(out.shape)}, left {list(left.shape)} {left.dtype} and right "
            f"{list(right.shape)} {right.dtype}"
        )
    return choose(IMPLS, impl, out, left, right)(out, left, right, scale, overwrite)


def _kernel_obstacle(out: Tensor, left: Tensor, right: Tensor) -> str | None:
    if left.dtype == out.dtype and left.element_size() < 4:
        return "a library's product adds to its result by itself in one 16-bit format"
    return triton_obstacle(out, left, right)


def _compiled_obstacle(out: Tensor, left: Tensor, right: Tensor) -> str | None:
    return cpu_obstacle(out, left, right) or cpu.obstacle(out, left, right)


def _load_triton() -> Callable[..., Tensor]:
    from strop.ops.add_low_rank.triton import add_low_rank_

    return add_low_rank_


IMPLS = (
    Impl("triton", _load_triton, _kernel_obstacle),
    Impl("cpu", lambda: cpu.add_low_rank_, _compiled_obstacle),
    Impl("eager", lambda: eager.add_low_rank_),
    Impl("reference", lambda: reference.add_low_rank_),
)
"""Fastest first; "eager" is a matrix product and runs on any device."""
