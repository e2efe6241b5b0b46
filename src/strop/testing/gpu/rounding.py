"""The rounding of bfloat16 as a GPU does it, for Triton's interpreter, which truncates."""

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter


class KernelError(Exception):
    """A kernel did what a GPU would punish with wrong numbers or a crash."""


def widened(bits: Any) -> Any:
    """Return the float32 numbers of bfloat16 bits."""
    wide = np.ascontiguousarray(bits).astype(np.uint32) << 16
    return wide.view(np.float32).reshape(np.shape(bits))


def narrowed(numbers: Any) -> Any:
    """Return the bfloat16 bits nearest to float32 numbers; of two as near, the even one."""
    bits = np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32)
    nearest = ((bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)) >> 16).astype(np.uint16)
    quiet_nan = np.uint16(0x7FC0)
    return np.where(np.isnan(numbers), quiet_nan, nearest.reshape(np.shape(numbers)))


class RoundingBuilder(interpreter.InterpreterBuilder):
    """The interpreter's operations with bfloat16 put right.

    The stock ones truncate where a GPU rounds to nearest, and compute with the raw bits. Here
    conversions and `tl.dot` are right and any other arithmetic in bfloat16 is refused: strop's
    kernels compute in float32.
    """

    def cast_impl(self, src: Any, dst_type: Any) -> Any:
        """Convert numbers to another type."""
        source, target = src.dtype.scalar, dst_type.scalar
        if target == tl.bfloat16 and source != tl.bfloat16:
            return interpreter.TensorHandle(narrowed(src.data.astype(np.float32)), target)
        if source == tl.bfloat16 and target != tl.bfloat16:
            numbers = widened(src.data).astype(interpreter._get_np_dtype(target))
            return interpreter.TensorHandle(numbers, target)
        return super().cast_impl(src, dst_type)

    def create_fp_to_fp(self, src: Any, dst_type: Any, rounding_mode: Any) -> Any:
        """Convert between floating-point types."""
        pair = {src.dtype.scalar, dst_type.scalar}
        if tl.bfloat16 in pair and pair <= {tl.bfloat16, tl.float16, tl.float32}:
            return self.cast_impl(src, dst_type)
        return super().create_fp_to_fp(src, dst_type, rounding_mode)

    def create_dot(
        self, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise: Any
    ) -> Any:
        """Multiply matrices, with sums in float32."""
        if a.dtype.scalar != tl.bfloat16 and b.dtype.scalar != tl.bfloat16:
            return super().create_dot(a, b, d, input_precision, max_num_imprecise)
        wide = (self.cast_impl(t, tl.float32).data for t in (a, b))
        return interpreter.TensorHandle(np.matmul(*wide) + d.data, d.dtype.scalar)

    def binary_op(self, lhs: Any, rhs: Any, op: Any) -> Any:
        """Combine two numbers."""
        _refuse_bfloat16(op, lhs, rhs)
        return super().binary_op(lhs, rhs, op)

    def unary_op(self, arg: Any, op: Any) -> Any:
        """Change one number."""
        _refuse_bfloat16(op, arg)
        return super().unary_op(arg, op)


class RoundingReduce(interpreter.ReduceOps):
    """Sums and extremes, refused in bfloat16."""

    def apply_impl(self, input: Any) -> Any:
        """Reduce tensors along an axis."""
        for t in input:
            _refuse_bfloat16(self.combine_fn.fn, t.handle)
        return super().apply_impl(input)


def _refuse_bfloat16(op: Any, *handles: Any) -> None:
    for handle in handles:
        if handle.dtype.scalar == tl.bfloat16:
            raise KernelError(f"{op.__name__} in bfloat16: convert to float32 first")
