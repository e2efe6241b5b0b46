"""Settings of the C library's heap that return freed memory to the system."""

import ctypes
import platform

LARGE = 1 << 20
"""Bytes from which a block is mapped by itself."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def return_large_blocks() -> bool:
    """Make glibc return each block of 1 MB and more to the system as soon as it is freed.

    By itself glibc raises that bound up to 32 MB as it sees large blocks freed; what is below lies
    in one heap, whose holes stay with the process. A step that keeps little makes and frees many
    such blocks, and may need twice the memory it uses. Holds for the whole process from now on.

    Returns:
        Whether the C library is glibc; others are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE) and mallopt(_M_TRIM_THRESHOLD, 32 * LARGE))


def return_free_memory() -> bool:
    """Return to the system what the C library holds of memory that is free.

    Returns:
        Whether the C library is glibc; others are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    ctypes.CDLL(None).malloc_trim(0)
    return True
