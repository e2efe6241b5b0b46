"""Compile an operation's C++ once per machine and load it; without a compiler the wheel's, if any."""

import ctypes
import functools
import hashlib
import logging
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strop.core import env
from strop.core.cache import cached_folder
from strop.core.dataless import has_data
from strop.core.errors import StropError
from strop.core.native import prebuilt
from strop.core.native.prebuilt import FLAGS, LINK, WIDE, compile_library, digest, run
from strop.core.system import versions

logger = logging.getLogger(__name__)

_LIBRARY = "library.so"
FORMATS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
"""Formats of numbers that C++ takes, by the names that its functions end with."""


class Pointer(ctypes.c_void_p):
    """Address of a tensor's numbers; None for no tensor."""

    @classmethod
    def from_param(cls, tensor: Tensor | None) -> "Pointer":
        """Return what ctypes passes on."""
        return cls(None if tensor is None else tensor.data_ptr())


KINDS: dict[str, Any] = {
    "p": Pointer,
    "q": ctypes.c_int64,
    "i": ctypes.c_int32,
    "f": ctypes.c_float,
}
"""Letters of a signature: a tensor or None, whole numbers of 64 and 32 bits, a float."""


def function(source: Path, name: str, signature: str) -> Callable[..., None] | None:
    """Return one function of a C++ file, or None where the file cannot be compiled.

    Called with tensors without data it does nothing, so that the memory of a step can be followed.

    Args:
        source: see `library`.
        name: the function's name.
        signature: one letter of `KINDS` for each of its arguments, the first a tensor that is
            always there; it returns nothing.
    """
    return _function(source, name, signature) if env.NATIVE else None


def function_for(
    source: Path, name: str, signature: str, *tensors: Tensor
) -> Callable[..., None] | None:
    """Return the function `name` of a C++ file for the format of tensors, or None.

    The file has it once for each of `FORMATS`, whose name it ends with.

    Args:
        source: see `library`.
        name: the function's name without the format.
        signature: see `function`.
        *tensors: all on a CPU and in one format; else there is none.
    """
    dtype = tensors[0].dtype
    if dtype not in FORMATS or any(t.dtype != dtype or t.device.type != "cpu" for t in tensors):
        return None
    return function(source, f"{name}_{FORMATS[dtype]}", signature)


@functools.cache
def _function(source: Path, name: str, signature: str) -> Callable[..., None] | None:
    if (loaded := library(source)) is None:
        return None
    compiled = loaded[name]
    compiled.argtypes = [KINDS[letter] for letter in signature]
    compiled.restype = None

    def call(first: Tensor, *others: Tensor | float | None) -> None:
        if has_data(first):
            compiled(first, *others)

    return call


def at_hand() -> bool | str:
    """Return whether C++ is used here: True where it is compiled, a level of the wheel's, or False."""
    if not env.NATIVE:
        return False
    if _compiler_version() is not None:
        return True
    return (prebuilt.level() or False) if _has_prebuilt() else False


def library(source: Path) -> ctypes.CDLL | None:
    """Return the compiled C++ file, or None where that cannot be had.

    The result lies in the cache folder under a hash of source, flags, compiler and processor, and
    is compiled again where it is no longer what was written; processes that compile the same file
    at once do not disturb each other. Why there is none is logged once. Calls release the GIL.

    Args:
        source: the C++ file; its functions are `extern "C"`.
    """
    return _library(source) if env.NATIVE else None


@functools.cache
def _library(source: Path) -> ctypes.CDLL | None:
    if _compiler_version() is None:
        library = prebuilt.library_of(source)
        return None if library is None else ctypes.CDLL(str(library))
    try:
        folder = cached_folder(
            _fingerprint(source), {}, lambda scratch: _compile(source, scratch), shelf="native"
        )
        return ctypes.CDLL(str(folder / _LIBRARY))
    except subprocess.CalledProcessError as e:
        reason = e.stderr.strip()[:2000]
    except (OSError, subprocess.TimeoutExpired, StropError) as e:
        reason = str(e)
    logger.warning(
        "%s/%s is not used, plain PyTorch is: %s", source.parent.name, source.name, reason
    )
    return None


def _fingerprint(source: Path) -> str:
    parts = [*FLAGS, *_machine_flags(), *LINK, env.CXX, _compiler_version() or ""]
    parts += [versions.processor(), digest(source)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@functools.cache
def _compiler_version() -> str | None:
    try:
        return run([env.CXX, "--version"])
    except (OSError, subprocess.SubprocessError) as e:
        if not _has_prebuilt():
            logger.warning("plain PyTorch is used in place of C++: there is no compiler (%s)", e)
        return None


def _has_prebuilt() -> bool:
    return any(prebuilt.FOLDER.glob(f"{prebuilt.level()}/*.so"))


def _machine_flags() -> list[str]:
    wide = WIDE if platform.machine() in ("x86_64", "AMD64") else []
    return ["-march=native", *wide]


def _compile(source: Path, folder: Path) -> None:
    folder.mkdir()
    compile_library(env.CXX, source, _machine_flags(), folder / _LIBRARY)
