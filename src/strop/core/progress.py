"""Progress of long work, as every package reports it and every face of strop shows it."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a stage, the number of its parts that are done, and of all; 0 of all: unknown."""

Written = Callable[[int], None]
"""Called with the number of bytes that were written since the last call."""


def silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""


def uncounted(nbytes: int) -> None:
    """Count nothing."""
