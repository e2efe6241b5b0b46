"""Want of memory, as the libraries below strop report it."""

import errno

_REPORTS = (
    "allocate memory",  # torch, mmap, the system
    "out of memory",  # CUDA
    "unable to mmap",  # torch, safetensors
    "could not create a primitive",  # oneDNN
    "can't start new thread",  # Python
    "failed to map segment from shared object",  # the dynamic linker
    "bad_alloc",  # C++
)


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or what caused it, says that memory could not be had."""
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError | OSError | ImportError) and any(
            report in str(error) for report in _REPORTS
        ):
            return True
        error = error.__cause__ or error.__context__
    return False
