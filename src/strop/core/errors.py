"""The errors strop raises on purpose, and how their hints spell settings."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_AS_FLAGS: ContextVar[bool] = ContextVar("hints as flags", default=False)


class StropError(Exception):
    """Base of every error raised on purpose; anything else that escapes is a bug."""


class ConfigError(StropError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class DataError(StropError, ValueError):
    """A file or a row of data that cannot be used; the text lists every fault found."""


class ShapeError(StropError, ValueError):
    """A tensor whose shape, dtype or device does not fit the call."""


class UnsupportedError(StropError, RuntimeError):
    """A correct request that this machine or this build cannot serve."""


class MissingPackageError(StropError, ImportError):
    """A request that needs a package which is not installed; the text has the command."""


class DivergedError(UnsupportedError):
    """A training whose loss is no longer a number; the text has the remedy."""


@contextlib.contextmanager
def hints_as_flags() -> Iterator[None]:
    """Let hints inside the block name settings as flags: their reader is on a command line."""
    token = _AS_FLAGS.set(True)
    try:
        yield
    finally:
        _AS_FLAGS.reset(token)


def flag(name: str) -> str:
    """Return the flag of a setting: `learning_rate` is `--learning-rate`."""
    return "--" + name.replace("_", "-")


def spelt(name: str, value: object = None) -> str:
    """Return a setting as the reader of a hint writes it.

    On the command line `--bits 16` and `--bits`, in Python `bits=16` and `bits`.
    """
    if _AS_FLAGS.get():
        return flag(name) if value is None else f"{flag(name)} {value}"
    return name if value is None else f"{name}={value!r}"
