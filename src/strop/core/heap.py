"""Keeps freed memory in the process, so that a training step does not fault its pages in again."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's malloc.h."""
LARGEST_KEPT = 32 * 1024 * 1024
"""Bytes: glibc takes no larger threshold for what it maps apart."""


def keep_freed_memory() -> bool:
    """Ask glibc to reuse freed blocks of up to 32 MiB instead of giving them back to the system.

    Activations are as large as the blocks that glibc otherwise maps and unmaps anew each time. The
    setting is the process's own, changes no result, and asking again changes nothing.

    Returns:
        Whether the C library took the setting: False on others than glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    taken = mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
    return bool(taken) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
