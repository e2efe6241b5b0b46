"""Files that are either whole or absent: written under a temporary name, then renamed."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from strop.core.errors import DataError, UnsupportedError

_LOCK, _REPLACED, _PLAIN = "writer.lock", "replaced", "plain"
"""In a temporary folder: the lock that its writer holds, what stood under the name before, a file."""


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    Works for a file and for a folder. After an error what stood there before stands there still.
    What is renamed is on the disk, so that a loss of power leaves the old or the new, whole, and may
    be read by whom the umask lets. What a killed process left is cleared by the next that writes
    the same path.

    Raises:
        UnsupportedError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(path)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    lock = FileLock(scratch / _LOCK)
    try:
        lock.acquire()
        yield scratch / path.name
        (scratch / _PLAIN).touch()
        readable = (scratch / _PLAIN).stat().st_mode  # what the user's umask gives a new file
        for file in (scratch / path.name, *(scratch / path.name).rglob("*")):
            if file.is_file():  # safetensors writes files that only their owner can read
                file.chmod(file.stat().st_mode | readable)
            sync(file)
        if path.is_dir():
            path.replace(scratch / _REPLACED)
        (scratch / path.name).replace(path)
        sync(path.parent)
    except OSError as e:
        if e.errno != 28:  # ENOSPC
            raise
        free = shutil.disk_usage(path.parent).free
        raise UnsupportedError(
            f"the disk is full: writing {path} failed with {free / 1e6:.0f} MB free; "
            "make room and run the same command again"
        ) from e
    finally:
        lock.release()
        _restore(path, scratch)
        shutil.rmtree(scratch, ignore_errors=True)


def clear_leftovers(path: Path) -> None:
    """Clear what processes that died while they wrote `path` left beside it.

    One that died between its two renames left the old under a temporary name; it goes back.
    """
    for scratch in list(path.parent.iterdir()):
        if not (scratch.name.startswith(f".{path.name}-") and (scratch / _LOCK).is_file()):
            continue
        lock = FileLock(scratch / _LOCK, timeout=0)
        with contextlib.suppress(Timeout, FileNotFoundError), lock:  # at work, or cleared meanwhile
            _restore(path, scratch)
            shutil.rmtree(scratch, ignore_errors=True)


def _restore(path: Path, scratch: Path) -> None:
    """Put back what stood under a name, if nothing else came to stand there."""
    if not path.exists() and (scratch / _REPLACED).exists():
        (scratch / _REPLACED).replace(path)


def sync(path: Path) -> None:
    """Write a file, or the names in a folder, to the disk itself."""
    if path.is_symlink() or (path.is_dir() and os.name == "nt"):  # Windows opens no folder
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with written_whole(path) as scratch:
        scratch.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path, *, hint: str = "copy it again") -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Args:
        path: of the file.
        hint: what to do about a damaged file, the end of the message.

    Raises:
        DataError: the file cannot be read, is not valid JSON, or holds no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise DataError(f"{path} cannot be read ({e.strerror}); {hint}") from e
    except ValueError as e:
        raise DataError(f"{path} is not valid JSON ({e}); {hint}") from e
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object; {hint}")
    return value
