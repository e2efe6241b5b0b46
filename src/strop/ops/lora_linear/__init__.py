"""A frozen linear layer with a low-rank adapter."""

from torch import Tensor

from strop.core.dispatch import Impl, choose
from strop.core.errors import ShapeError
from strop.ops.lora_linear import autograd, reference
from strop.ops.lora_linear.parts import LinearParts


def lora_linear(x: Tensor, part: LinearParts, *, impl: str | None = None) -> Tensor:
    """Apply a frozen weight and its adapter.

        y = x W^T + bias + scale * drop(x) A^T B^T
        with a magnitude m (DoRA, arXiv:2402.09353):
        y = m / |W + scale B A|_row * (x W^T + scale * x A^T B^T) + bias, the row norms constant

    In float32 and wider the adapter is folded into the weight first. Kept for backward: x.

    Args:
        x: [N, D] floating point.
        part: the layer taken apart; weight [E, D], A [R, D], B [E, R].
        impl: run this implementation or raise; None takes the first that can.

    Returns:
        [N, E] same dtype as `x`; differentiable in `x`, A, B and the magnitude.

    Raises:
        ShapeError: the tensors do not fit each other.
        UnsupportedError: `impl` is unknown or cannot run here.
    """
    E, D = part.weight.shape
    fits = x.ndim == 2 and x.shape[1] == D and (part.a is None) == (part.b is None)
    if part.a is not None and part.b is not None:
        fits &= part.a.shape[1:] == (D,) and part.b.shape == (E, part.a.shape[0])
    fits &= part.bias is None or part.bias.shape == (E,)
    fits &= part.magnitude is None or (part.a is not None and part.magnitude.shape == (E,))
    if not fits:
        tensors = (part.a, part.b, part.bias, part.magnitude)
        a, b, bias, magnitude = (None if t is None else list(t.shape) for t in tensors)
        raise ShapeError(
            "lora_linear takes x [N, D], weight [E, D], A [R, D], B [E, R], bias [E] and, beside A "
            f"and B, magnitude [E]; got x {list(x.shape)}, weight {[E, D]}, A {a} and B {b}, "
            f"bias {bias} and magnitude {magnitude}"
        )
    return choose(IMPLS, impl, x)(x, part)


IMPLS = (
    Impl("eager", lambda: autograd.lora_linear),
    Impl("reference", lambda: reference.lora_linear),
)
"""Fastest first; "eager" consists of matrix products and runs on any device."""
