"""One owner of a run folder: the process that trains in it holds its lock."""

import contextlib
from pathlib import Path

from filelock import FileLock, Timeout

from strop.core.errors import ConfigError
from strop.core.files import writing

LOCK = "train.lock"
"""In a run folder while a process trains in it."""


class Owner:
    """A run folder that this process alone trains in, until it is released.

    Args:
        path: the folder; made if it is not there.

    Raises:
        ConfigError: another process trains in it.
        UnsupportedError: it cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / LOCK, timeout=0)
        try:
            with writing(path):
                path.mkdir(parents=True, exist_ok=True)
                self._lock.acquire()
        except Timeout:
            raise ConfigError(
                f"another process trains in {path}; wait for its end, or give another out"
            ) from None

    def release(self) -> None:
        """Release the folder to other processes; remove it if no other file is in it."""
        self._lock.release()
        with contextlib.suppress(OSError):  # another process has taken it, or files lie in it
            (self.path / LOCK).unlink(missing_ok=True)
            self.path.rmdir()
