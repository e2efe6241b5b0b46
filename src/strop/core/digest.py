"""SHA-256 of files, computed once for each state of a file."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

from strop.core import env
from strop.core.files import read_cached, reading, write_cached

_SETTLED = 2_000_000_000
"""Nanoseconds since the last change after which another one is sure to move the file's times."""


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex.

    The digest is cached by the file's path, size, times of change and place on the disk, so that
    reading many gigabytes is paid for once.

    Raises:
        DataError: the file cannot be read.
    """
    path = path.resolve()
    with reading(path):
        stat = path.stat()
    state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]
    name = hashlib.sha256(str(path).encode()).hexdigest()[:32]
    entry = env.cache_folder() / "digests" / f"{name}.json"
    cached = read_cached(entry)
    if cached.get("state") == state:
        return str(cached["digest"])
    with reading(path), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED:
        write_cached(entry, {"path": str(path), "state": state, "digest": digest})
    return digest


def folder_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def changed_file(folder: Path, recorded: Mapping[str, str]) -> Path | None:
    """Return the first file in a folder whose SHA-256 is not the recorded one, or None.

    Args:
        folder: where the files lie.
        recorded: SHA-256 by path in the folder; a file that is missing counts as changed.
    """
    for name, digest in recorded.items():
        file = folder / name
        if not file.is_file() or file_digest(file) != digest:
            return file
    return None
