"""Pages of memory under what is read again and again."""

import ctypes
import sys
from collections.abc import Iterable, Iterator

from torch import Tensor

LARGE = 2 << 20
"""Bytes of a large page of x86-64, and of ARM64 where small ones have 4 KB."""
_MADV_COLLAPSE = 25  # linux/mman.h, since Linux 6.1


def use_large_pages(tensors: Iterable[Tensor]) -> None:
    """Let the numbers of tensors lie in pages of 2 MB, where Linux has such pages to give.

    Reading more memory than the processor remembers the places of, it then looks up 512 times fewer of
    them. Tensors keep their addresses and numbers; what shares a page with them moves along. Mapped
    files, older systems and what is no whole page are left as they are. The first call copies the
    tensors once, a later one finds nothing to do.
    """
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for address in _pages(tensors):
        madvise(address, LARGE, _MADV_COLLAPSE)


def _pages(tensors: Iterable[Tensor]) -> Iterator[int]:
    """Yield the addresses of the large pages that the storages of tensors touch, each once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    last = 0
    for address, size in sorted(storages.items()):
        if size:
            first = max(address // LARGE * LARGE, last)
            last = max(last, -(-(address + size) // LARGE) * LARGE)
            yield from range(first, last, LARGE)
