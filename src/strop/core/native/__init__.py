"""Compile an operation's C++ once per machine and load it; without a compiler there is none."""

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
from strop.core.system import versions

logger = logging.getLogger(__name__)

HEADERS = Path(__file__).parent
"""The folder of what every C++ file may include: vector arithmetic, small products."""
COMPILE = ["-c", "-x", "c++", "-std=c++17", "-O3", "-march=native", "-fPIC", "-fopenmp"]
COMPILE += ["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
LINK = ["-shared"]
"""Without -fopenmp: its symbols are those of the OpenMP runtime that PyTorch has loaded, so there
is one pool of threads. Without -ffast-math: that would switch off denormals in the whole process.
"""
SECONDS = 120
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

    def run(first: Tensor, *others: Tensor | float | None) -> None:
        if has_data(first):
            compiled(first, *others)

    return run


def is_at_hand() -> bool:
    """Say whether C++ can be compiled here and is not switched off."""
    return env.NATIVE and _compiler_version() is not None


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
        return None
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
    flags = [*COMPILE, *_machine_flags(), *LINK]
    parts = [*flags, env.CXX, _compiler_version() or "", versions.processor()]
    digest = hashlib.sha256("\0".join(parts).encode())
    for file in (source, *sorted(HEADERS.glob("*.h"))):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


@functools.cache
def _compiler_version() -> str | None:
    try:
        return _run([env.CXX, "--version"])
    except (OSError, subprocess.SubprocessError) as e:
        logger.warning("plain PyTorch is used in place of C++: there is no compiler (%s)", e)
        return None


def _machine_flags() -> list[str]:
    return ["-mprefer-vector-width=512"] if platform.machine() in ("x86_64", "AMD64") else []


def _compile(source: Path, folder: Path) -> None:
    folder.mkdir()
    half_done = folder.with_suffix(".o")
    flags = [*COMPILE, *_machine_flags(), "-I", str(HEADERS)]
    _run([env.CXX, *flags, "-o", str(half_done), str(source)])
    _run([env.CXX, *LINK, "-o", str(folder / _LIBRARY), str(half_done)])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
    return done.stdout
