"""Files that are either whole or absent, written under a temporary name; folders for work between."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from strop.core.errors import ConfigError
from strop.core.files.guard import writing

_LOCK, _REPLACED, _PLAIN = "writer.lock", "replaced", "plain"
"""In a temporary folder: the lock that its writer holds, what stood under the name before, a file."""


def check_new(path: Path, *, overwrite: bool = False) -> None:
    """Check, before long work, that its result can be written; make the folder it goes into.

    Raises:
        ConfigError: the file is there already and may not be overwritten.
        UnsupportedError: its folder cannot be made or written; see `writing`.
    """
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} is there already; name another file, or pass --overwrite")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    Works for a file and for a folder. After an error what stood there before stands there still.
    What is renamed is on the disk, so that a loss of power leaves the old or the new, whole, and may
    be read by whom the umask lets. What a killed process left is cleared by the next that writes
    the same path.

    Raises:
        UnsupportedError: it cannot be written, as where the disk is full; see `writing`.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(path)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        lock = FileLock(scratch / _LOCK)
        try:
            lock.acquire()
            yield scratch / path.name
            _settle(scratch / path.name, scratch / _PLAIN)
            if path.exists() and (path.is_dir() or (scratch / path.name).is_dir()):
                path.replace(scratch / _REPLACED)
            (scratch / path.name).replace(path)
            sync(path.parent)
        finally:
            lock.release()
            _restore(path, scratch)
            shutil.rmtree(scratch, ignore_errors=True)


def _settle(whole: Path, plain: Path) -> None:
    """Let others read what the umask lets them, and force it to the disk."""
    plain.touch()
    mode = plain.stat().st_mode
    for file in (whole, *whole.rglob("*")):
        if file.is_file() and not file.is_symlink():  # safetensors writes for its owner alone
            file.chmod(file.stat().st_mode | mode)
        sync(file)


def clear_leftovers(path: Path) -> None:
    """Clear what processes that died while they wrote `path` left beside it.

    One that died between its two renames left the old under a temporary name; it goes back.
    """
    for scratch in _left_by_the_dead(path.parent, f".{path.name}-"):
        _restore(path, scratch)
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(purpose: str, parent: str | Path | None = None) -> Iterator[Path]:
    """Yield an empty folder that is deleted at the end, also that of a process that was killed.

    Args:
        purpose: for which the next folder clears those that dead processes left.
        parent: of the folder; None is the system's for temporary files.
    """
    place, prefix = Path(parent or tempfile.gettempdir()), f"strop-{purpose}-"
    with writing(place):
        for scratch in _left_by_the_dead(place, prefix):
            shutil.rmtree(scratch, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    lock = FileLock(scratch / _LOCK)
    try:
        with writing(place):
            lock.acquire()
            (scratch / "files").mkdir()
        yield scratch / "files"
    finally:
        lock.release()
        shutil.rmtree(scratch, ignore_errors=True)


def _left_by_the_dead(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield, each locked, the temporary folders of processes that are no more; empty ones are deleted.

    A process that died before it locked its folder left it empty.
    """
    for scratch in list(parent.iterdir()):
        if not scratch.name.startswith(prefix):
            continue
        # at work, cleared meanwhile, of another user, or no folder
        with contextlib.suppress(Timeout, FileNotFoundError, PermissionError, NotADirectoryError):
            if hasattr(os, "getuid") and scratch.lstat().st_uid != os.getuid():
                continue
            if (scratch / _LOCK).is_file():
                with FileLock(scratch / _LOCK, timeout=0):
                    yield scratch
            elif not any(scratch.iterdir()):
                scratch.rmdir()


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
