"""A packed weight made dense."""

from collections.abc import Callable

import torch
from torch import Tensor

from strop.core.dispatch import Impl, choose, cpu_obstacle, triton_obstacle
from strop.core.errors import ShapeError
from strop.ops.dequantize import cpu, reference
from strop.ops.dequantize.packed import BITS, Packed, code_bytes


def dequantize(
    weight: Packed,
    *,
    out: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    impl: str | None = None,
) -> Tensor:
    """Write a packed weight as numbers.

        y[i] = table[code[i]] * scale[i // G]

    The product is one rounding in float32, then one to the dtype of the result.

    Args:
        weight: the codes and scales; see `strop.ops.dequantize.packed`.
        out: [E, D] contiguous, where the result is written; None makes it.
        dtype: of the result where `out` is None.
        impl: run this implementation or raise; None takes the first that can.

    Returns:
        [E, D] `out`, or a new tensor.

    Raises:
        ShapeError: the parts of the weight, or `out`, do not fit.
        UnsupportedError: `impl` is unknown or cannot run here.
    """
    _check(weight)
    if out is None:
        out = torch.empty(weight.shape, dtype=dtype, device=weight.codes.device)
    if out.shape != weight.shape or not out.is_contiguous():
        raise ShapeError(
            f"the weight is {list(weight.shape)}; out is {list(out.shape)} with strides "
            f"{list(out.stride())}, it must be of the same shape and contiguous"
        )
    return choose(IMPLS, impl, weight.codes, out)(weight.codes, weight, out)


def _check(weight: Packed) -> None:
    count = weight.shape.numel()
    blocks = -(-count // weight.group)
    expected = {
        "codes": (weight.codes.numel(), code_bytes(count, weight.bits)),
        "table": (weight.table.numel(), 2**weight.bits),
        "scale_codes": (weight.scale_codes.numel(), blocks),
    }
    if weight.factors is not None:
        expected["factors"] = (weight.factors.numel(), -(-blocks // weight.scale_group))
    wrong = [f"{name} has {has}, not {needs}" for name, (has, needs) in expected.items()
             if has != needs]  # fmt: skip
    if weight.bits not in BITS or (weight.bits > 4 and weight.group % 8):
        wrong.append(f"{weight.bits} bits in groups of {weight.group} are not stored")
    if wrong:
        raise ShapeError(
            f"the parts of a weight {list(weight.shape)} do not fit: {'; '.join(wrong)}"
        )


def _load_triton() -> Callable[..., Tensor]:
    from strop.ops.dequantize.triton import dequantize

    return dequantize


IMPLS = (
    Impl("triton", _load_triton, triton_obstacle),
    Impl("cpu", lambda: cpu.dequantize, cpu_obstacle),
    Impl("reference", lambda: reference.dequantize),
)
"""Fastest first."""
