"""Want of memory, as the libraries below strop report it."""

import errno

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
