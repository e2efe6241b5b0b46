"""Want of memory: limits set on this process, and how the libraries below strop report it."""

import errno
import sys

import psutil

from strop.core.errors import ConfigError

LEAST = 256 * 2**20
"""Bytes that a limit must leave: with fewer, imports fail oddly and tokenizers ends the process."""

_REPORTS = (
    "allocate memory",  # torch, mmap, the system
    "not enough memory",  # torch on Windows
    "out of memory",  # CUDA
    "unable to mmap",  # torch, safetensors
    "could not create a primitive",  # oneDNN
    "can't start new thread",  # Python
    "failed to map segment from shared object",  # the dynamic linker
    "bad_alloc",  # C++
)


def says_so(text: str) -> bool:
    """Return whether the text of an error says that memory could not be had."""
    return any(report in text for report in _REPORTS)


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or what caused it, says that memory could not be had."""
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError | OSError | ImportError) and says_so(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def resource_limits() -> dict[str, int]:
    """Return the bytes that each limit set on this process leaves, by the command that sets it."""
    if sys.platform != "linux":
        return {}
    import resource

    memory = psutil.Process().memory_info()
    left = {}
    for kind, used, command in (
        (resource.RLIMIT_DATA, memory.data, "ulimit -d"),
        (resource.RLIMIT_AS, memory.vms, "ulimit -v"),
    ):
        soft = resource.getrlimit(kind)[0]
        if soft != resource.RLIM_INFINITY:
            left[command] = max(0, soft - used)
    return left


def check_limits() -> None:
    """Raise ConfigError if a limit set on this process leaves less than `LEAST` bytes."""
    for command, left in resource_limits().items():
        if left < LEAST:
            raise ConfigError(
                f"{command} leaves {left / 1e6:,.0f} MB to this process, which needs "
                f"{LEAST / 1e6:,.0f} MB at least; raise the limit"
            )
