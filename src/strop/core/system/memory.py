"""Want of memory: limits set on this process, and how the libraries below strop report it."""

import errno
import sys

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

    limits = {
        "ulimit -d": (resource.getrlimit(resource.RLIMIT_DATA)[0], "data"),
        "ulimit -v": (resource.getrlimit(resource.RLIMIT_AS)[0], "vms"),
    }
    limits = {c: limit for c, limit in limits.items() if limit[0] != resource.RLIM_INFINITY}
    if not limits:  # nearly always, and this is called before anything else
        return {}
    import psutil

    memory = psutil.Process().memory_info()
    return {c: max(0, soft - getattr(memory, used)) for c, (soft, used) in limits.items()}


def check_limits() -> None:
    """Raise ConfigError if a limit set on this process leaves less than `LEAST` bytes."""
    for command, left in resource_limits().items():
        if left < LEAST:
            raise ConfigError(
                f"{command} leaves {left / 1e6:,.0f} MB to this process, which needs "
                f"{LEAST / 1e6:,.0f} MB at least; raise the limit"
            )
