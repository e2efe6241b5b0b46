"""Output whose reader may go away: a terminal that is closed, a pipe whose other end has enough."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from strop.core.errors import UnsupportedError

_NO_TERMINAL = (errno.EIO, errno.ENXIO)


class ReaderGoneError(Exception):
    """The pipe that standard output goes into has no reader any more."""


class _Output:
    """A text stream; see `lasting_output`.

    Args:
        stream: what is written to.
        needed: raise where it cannot be written, unless its terminal is gone.
    """

    def __init__(self, stream: TextIO, *, needed: bool) -> None:
        self._stream = stream
        self._needed = needed

    def write(self, text: str) -> int:
        """Write the text, or drop it where nobody can read it."""
        with self._lasting():
            return self._stream.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write the texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand on what was written."""
        with self._lasting():
            self._stream.flush()

    @contextlib.contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            with contextlib.suppress(OSError, ValueError):  # it has no descriptor
                drop_output([self._stream.fileno()])
            if not self._needed or e.errno in _NO_TERMINAL:
                return
            if e.errno == errno.EPIPE:
                raise ReaderGoneError from e
            reason = os.strerror(e.errno or 0)
            raise UnsupportedError(
                f"standard output cannot be written ({reason}); the work itself is done"
            ) from e

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lasting_output(*, results: bool = False) -> Iterator[None]:
    """Let no write to standard error inside the block raise: progress must not end the work.

    Args:
        results: standard output too drops what its terminal, if it is gone, no longer takes; what
            else it cannot write is an error.

    Raises:
        ReaderGoneError: with `results`, the pipe has no reader any more.
        UnsupportedError: with `results`, standard output cannot be written otherwise.
    """
    with contextlib.ExitStack() as undo:
        if sys.stderr is not None:
            errors: Any = _Output(sys.stderr, needed=False)
            undo.enter_context(contextlib.redirect_stderr(errors))
        if results and sys.stdout is not None:
            output: Any = _Output(sys.stdout, needed=True)
            undo.enter_context(contextlib.redirect_stdout(output))
            yield
            output.flush()
        else:
            yield


def drop_output(descriptors: Iterable[int]) -> None:
    """Send nowhere what is written to these descriptors from now on, also what is still buffered."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
