"""Room on the disk, checked before anything is written."""

import shutil
from pathlib import Path

from strop.core.errors import UnsupportedError

_SPARE = 50_000_000
"""Bytes left free at least; a disk filled to the last byte breaks other programs."""


def check_room(folder: Path, needs: dict[str, int]) -> None:
    """Check that what is to be written into `folder` fits on its disk.

    Args:
        folder: need not exist yet.
        needs: bytes of each thing that is to be written.

    Raises:
        UnsupportedError: it does not fit; the text has the sizes.
    """
    free, needed = free_bytes(folder), sum(needs.values())
    if needed + _SPARE > free:
        listed = ", ".join(f"{name} {format_size(size)}" for name, size in needs.items())
        raise UnsupportedError(
            f"{folder} has no room: {format_size(needed)} are needed ({listed}) and "
            f"{format_size(free)} are free; make room, or give another folder with --out"
        )


def free_bytes(path: Path) -> int:
    """Return how many bytes are free where `path` is or would be."""
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free


def format_size(count: float) -> str:
    """Return a number of bytes as GB or MB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
