"""SHA-256 of files, computed once for each state of a file."""

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

from strop.core import env
from strop.core.errors import StropError
from strop.core.files import write_json

_SETTLED = 2_000_000_000
"""Nanoseconds since the last change after which another one is sure to move the file's times."""


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex.

    The digest is cached by the file's path, size, times of change and place on the disk, so that
    reading many gigabytes is paid for once.
    """
    path = path.resolve()
    stat = path.stat()
    state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]
    name = hashlib.sha256(str(path).encode()).hexdigest()[:32]
    entry = env.cache_folder() / "digests" / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        cached = json.loads(entry.read_text(encoding="utf-8"))
        if cached["state"] == state:
            return str(cached["sha256"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED:
        with contextlib.suppress(OSError, StropError):  # without it, it is read again
            write_json(entry, {"path": str(path), "state": state, "sha256": digest})
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
