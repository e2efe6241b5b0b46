"""The guard around every file that is opened: what fails becomes one sentence.

A sentence has the path, what is wrong, and what to do. Libraries below report the same fault each
in its own way: Python as OSError, safetensors and tokenizers as a text that ends in "(os error 28)",
torch as RuntimeError.
"""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from strop.core.errors import DataError, MissingPackageError, StropError, UnsupportedError
from strop.core.system.disk import format_size, free_bytes
from strop.core.system.memory import says_so

_FULL = 1_000_000
"""With fewer bytes free a failed write needs no other explanation."""
_RUST = re.compile(r"\(os error (\d+)\)")
_TORCH = re.compile(r"inline_container|PytorchStream|iostream error|Parent directory .* not exist")
"""What torch's writer says of a file, in whatever way it fails."""
_WHY = {
    errno.ENOSPC: ("the disk is full", "make room"),
    errno.EDQUOT: ("the quota of its disk is used up", "make room, or ask for more"),
    errno.EFBIG: (
        "a file may not become so large here",
        "make room, or raise the limit (ulimit -f)",
    ),
    errno.EROFS: ("its disk can only be read", "give a folder that can be written"),
    errno.EACCES: ("this user may not", "change its permissions or its owner"),
    errno.EPERM: ("this user may not", "change its permissions or its owner"),
    errno.ENOENT: ("it is not there", "look for its name"),
    errno.EISDIR: ("it is a folder", "give a file"),
    errno.ENOTDIR: ("a file lies where a folder should be", "remove that file"),
    errno.ENAMETOOLONG: ("its name is too long", "shorten it"),
    errno.ELOOP: ("it is a link to itself", "put the file itself there"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.EIO: ("the disk reports a fault", "copy what can be read to another disk"),
    errno.ENOMEM: ("memory does not suffice", "free some, or raise its limit"),
}
"""By number of the system's error what is wrong, and what to do."""


def expanded(name: str | Path) -> Path:
    """Return a path with ~ as the user's home folder, left as it is where there is none."""
    return Path(os.path.expanduser(name))


@contextlib.contextmanager
def reading(path: str | Path, hint: str = "copy it again") -> Iterator[None]:
    """Explain whatever fails while `path`, a file or a folder of files, is read inside the block.

    Args:
        path: what is read.
        hint: what to do about a damaged file, the end of the sentence.

    Raises:
        DataError: it cannot be opened, is damaged, or holds something else than it should.
        MissingPackageError: the package that reads such a file is not installed.
    """
    try:
        yield
    except StropError:
        raise
    except ImportError as e:
        raise MissingPackageError(f"{path} cannot be read: {_text(e)}") from e
    except Exception as e:
        code, where = _code(e), _file(path, e)
        if code in _WHY:
            why, remedy = _WHY[code]
            remedy = hint if code == errno.ENOENT else remedy
            raise DataError(f"{where} cannot be read ({why}); {remedy}") from e
        raise DataError(f"{where} {_damage(e)}; {hint}") from e


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Explain what fails while `path`, a file or a folder of files, is written inside the block.

    Other faults, as of what computes the content, pass through.

    Args:
        path: what is written.

    Raises:
        UnsupportedError: it cannot be written; the text has the room that is left.
    """
    try:
        yield
    except StropError:
        raise
    except Exception as e:
        code = _code(e)
        if not _of_writing(e, code, Path(path)):
            raise
        free = free_bytes(Path(path).parent)
        if free < _FULL:
            code = errno.ENOSPC
        why, remedy = _WHY.get(code or 0, (_text(e), "make room, or give another folder"))
        raise UnsupportedError(
            f"{path} cannot be written: {why} ({format_size(free)} are free there); {remedy}, and "
            "run the command again (a run goes on with strop train --resume)"
        ) from e


def _of_writing(error: Exception, code: int | None, path: Path) -> bool:
    """Say whether an error is that of a file below the folder of `path`."""
    if isinstance(error, OSError):
        named = error.filename
        return code is not None and (
            not isinstance(named, str | os.PathLike)
            or Path(named).absolute().is_relative_to(path.absolute().parent)
            or path.absolute().is_relative_to(Path(named).absolute())  # a folder above it
        )
    if isinstance(error, RuntimeError):
        return _TORCH.search(str(error)) is not None
    return code is not None  # safetensors and tokenizers


def _code(error: Exception) -> int | None:
    """Return the number of the system's error behind what a library raises, or None."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, FileNotFoundError):  # as safetensors makes it
        return errno.ENOENT
    if isinstance(error, MemoryError) or says_so(str(error)):
        return errno.ENOMEM
    match = _RUST.search(str(error))
    return int(match[1]) if match else None


def _file(path: str | Path, error: Exception) -> str | Path:
    """Return the file that an error names, if it lies in the folder that is read."""
    named = error.filename if isinstance(error, OSError) else None
    if isinstance(named, str) and Path(path).is_dir() and Path(named).is_relative_to(path):
        return named
    return path


def _damage(error: Exception) -> str:
    """Return what is wrong with the content of a file."""
    if isinstance(error, json.JSONDecodeError):
        return f"is not valid JSON ({error})"
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 text (byte {error.start} is {error.object[error.start]:#04x})"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, EOFError) or type(error).__module__.startswith("safetensors"):
        return f"is damaged or cut short: {_text(error)}"
    return f"is damaged, or not what it should be ({type(error).__name__}: {_text(error)})"


def _text(error: Exception) -> str:
    """Return an error's text on one line, as short as a sentence can take."""
    return " ".join(str(error).split())[:300] or type(error).__name__
