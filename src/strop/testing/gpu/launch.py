"""A call of an operation whose kernels are compiled for every card."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Launch:
    """One call, as a real model makes it."""

    name: str
    call: Callable[[], object]
    """Makes its tensors with `on_card` and calls the wrappers; nothing is computed."""
    aligned: bool = True
    """Whether rows begin at multiples of 16 bytes, so that loads must be 128 bits wide."""


def on_card(*shape: int, dtype: torch.dtype = torch.bfloat16, beside: int = 0) -> Tensor:
    """Return a tensor on CUDA, without data when the mode is fake.

    Args:
        *shape: its sizes.
        dtype: of its elements.
        beside: elements of something else after each row, as in a buffer of q, k and v.
    """
    row = torch.Size(shape[1:]).numel()
    buffer = torch.empty(shape[0], row + beside, dtype=dtype, device="cuda")
    return buffer[:, :row].view(shape) if beside == 0 else buffer[:, :row].unflatten(1, shape[1:])
