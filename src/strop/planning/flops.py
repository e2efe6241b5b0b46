"""Counts the floating-point operations of matrix products and of attention."""

from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from strop.core import work

_aten = torch.ops.aten
_SAME = {
    _aten.addmm_: _aten.addmm,
    _aten.baddbmm_: _aten.baddbmm,
    _aten._scaled_dot_product_flash_attention_for_cpu: _aten._scaled_dot_product_flash_attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        _aten._scaled_dot_product_flash_attention_backward
    ),
}
"""Operations that PyTorch's table leaves out, and those that do the same work."""


_PRODUCTS = (_aten.mm, _aten.addmm)


class Flops(TorchDispatchMode):
    """Counts what PyTorch's own counter does, in place too, and what strop's C++ reports.

    A multiply-add is two. Of causal attention the pairs that see each other count, not the square.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.products: set[tuple[Any, ...]] = set()
        """Products of two matrices in 16 bits: operation, shapes and strides."""
        self._listening = work.counted(self._add)

    def _add(self, flops: int) -> None:
        self.total += flops

    def __enter__(self) -> Self:
        """Begin to count."""
        self._listening.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Stop counting."""
        super().__exit__(*error)
        self._listening.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        packet = _SAME.get(func.overloadpacket, func.overloadpacket)
        if packet in _PRODUCTS:
            matrices = [t for t in args if isinstance(t, Tensor) and t.dim() == 2][-2:]
            if all(t.dtype in (torch.bfloat16, torch.float16) for t in matrices):
                self.products.add((packet, *((*t.shape, *t.stride()) for t in matrices)))
        if packet in flop_registry:
            self.total += round(
                _share(func, args) * flop_registry[packet](*args, **kwargs, out_val=result)
            )
        return result


def _share(func: Any, args: tuple[Any, ...]) -> float:
    """Return which share of the pairs of queries and keys an attention computes."""
    names = [a.name for a in func._schema.arguments]
    if "is_causal" not in names or not args[names.index("is_causal")]:
        return 1.0
    queries, keys = args[names.index("query")].shape[-2], args[names.index("key")].shape[-2]
    return (keys - (queries - 1) / 2) / keys
