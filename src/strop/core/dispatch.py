"""Choose which implementation of an operation runs.

This is the only place in the library where that choice is made.
"""

import functools
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from strop.core import env
from strop.core.dataless import has_data
from strop.core.errors import UnsupportedError

KERNEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Floating-point types of Triton kernels; they compute in float32."""


@dataclass(frozen=True, slots=True)
class Impl:
    """One implementation of an operation."""

    name: str
    """Name in ``impl=``."""
    load: Callable[[], Callable[..., Any]]
    """Returns the function, imported where needed; called when this implementation is chosen."""
    obstacle: Callable[..., str | None] = lambda *tensors: None
    """Returns why it cannot take these tensors, or None when it can."""


def choose(impls: Sequence[Impl], name: str | None, *tensors: Tensor) -> Callable[..., Any]:
    """Return the function to run: the named one, or else the first that can take the tensors.

    Args:
        impls: fastest first; the last one takes any tensors.
        name: of an implementation, which is never replaced by another; None takes the first.
        *tensors: the tensors of the call.

    Raises:
        UnsupportedError: the named implementation is unknown or cannot take the tensors.
    """
    name = name or env.FORCED_IMPL
    if name is None:
        return next(i for i in impls if i.obstacle(*tensors) is None).load()
    for impl in impls:
        if impl.name == name:
            if (obstacle := impl.obstacle(*tensors)) is not None:
                raise UnsupportedError(f"impl={name!r} cannot run here: {obstacle}")
            return impl.load()
    known = ", ".join(repr(i.name) for i in impls)
    raise UnsupportedError(f"impl={name!r} is not known; this operation has {known}")


Passes = TypeVar("Passes")


def differentiable(
    function: Callable[..., Tensor],
    triton: Callable[[], Passes],
    eager: Passes,
    reference: Callable[..., Tensor],
) -> tuple[tuple[Impl, ...], Callable[..., Passes]]:
    """Return the implementations of an operation whose passes are differentiated by hand.

    Args:
        function: of the passes and the call's arguments; autograd sees it as one step.
        triton: imports the passes that are kernels.
        eager: the passes that run on any device.
        reference: the definition.

    Returns:
        The implementations, fastest first, and the function that chooses the passes for tensors:
        kernels where they run, else the eager ones.
    """
    run_eager = functools.partial(function, eager)
    impls = (
        Impl("triton", lambda: functools.partial(function, triton()), triton_obstacle),
        Impl("eager", lambda: run_eager, compile_obstacle),
        Impl("reference", lambda: reference),
    )
    return impls, lambda *tensors: triton() if triton_obstacle(*tensors) is None else eager


def compile_obstacle(*tensors: Tensor) -> str | None:
    """Return why `torch.compile` takes no autograd function or C++ of ours, or None outside it."""
    return "torch.compile cannot see into it" if torch.compiler.is_compiling() else None


def cpu_obstacle(*tensors: Tensor) -> str | None:
    """Return why our C++ for CPUs cannot take these tensors, or None when it can."""
    for t in tensors:
        if t.device.type != "cpu":
            return f"it needs CPU tensors, one is on {t.device.type}"
    return compile_obstacle()


def triton_obstacle(*tensors: Tensor) -> str | None:
    """Return why Triton kernels cannot take these tensors, or None when they can.

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
