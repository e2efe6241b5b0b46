"""Choose which implementation of an operation runs.

This is the only place in the library where that choice is made.
"""

import functools
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from strop.core import env
from strop.core.dataless import has_data
from strop.core.errors import UnsupportedError

KERNEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Floating-point types of Triton kernels; they compute in float32."""


@dataclass(frozen=True, slots=True)
class Impl:
    """One way to run an operation."""

    name: str
    """What a user writes in ``impl=``."""
    load: Callable[[], Callable[..., Tensor]]
    """Imports and returns the function; called only when this implementation is chosen."""
    obstacle: Callable[..., str | None] = lambda *tensors: None
    """Says why these tensors cannot be taken, or None when they can."""


def choose(impls: Sequence[Impl], wanted: str | None, *tensors: Tensor) -> Callable[..., Tensor]:
    """Return the function to run: the wanted one, or else the first that can take the tensors.

    Args:
        impls: fastest first; the last one takes any tensors.
        wanted: a name, or None. A wanted implementation is never replaced by another.
        *tensors: the tensors of the call.

    Raises:
        UnsupportedError: the wanted implementation is unknown or cannot take the tensors.
    """
    wanted = wanted or env.FORCED_IMPL
    if wanted is None:
        return next(i for i in impls if i.obstacle(*tensors) is None).load()
    for impl in impls:
        if impl.name == wanted:
            if (obstacle := impl.obstacle(*tensors)) is not None:
                raise UnsupportedError(f"impl={wanted!r} cannot run here: {obstacle}")
            return impl.load()
    known = ", ".join(repr(i.name) for i in impls)
    raise UnsupportedError(f"impl={wanted!r} is not known; this operation has {known}")


def triton_obstacle(*tensors: Tensor) -> str | None:
    """Say why Triton kernels cannot take these tensors, or None when they can.

    They run on NVIDIA, AMD and Intel GPUs (PyTorch calls the first two "cuda"), in float32,
    float16 and bfloat16; whole numbers may be of any width.
    """
    if torch.compiler.is_compiling():
        return "torch.compile writes its own kernels for what it sees"
    if not _has_triton():
        return "triton is not installed"
    kinds = ("cpu",) if env.INTERPRETED else ("cuda", "xpu")
    for t in tensors:
        if t.device.type not in kinds:
            return f"it needs tensors on a GPU, one is on {t.device.type}"
        if not env.INTERPRETED and has_data(t) and t.device.index != _current_device(t):
            return f"kernels start on device {_current_device(t)}, one tensor is on {t.device}"
        if t.dtype not in KERNEL_DTYPES and (t.is_floating_point() or t.is_complex()):
            return f"it takes float32, float16 and bfloat16, one tensor is {t.dtype}"
    return None


def _current_device(t: Tensor) -> int:
    """Return the number of the device that this thread starts kernels on."""
    number: int = torch.get_device_module(t.device).current_device()
    return number


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
