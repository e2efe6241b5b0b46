"""Progress of long work, as every package reports it and every face of strop shows it."""

import time
from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a stage, the number of its parts that are done, and of all; 0 of all: unknown."""

Written = Callable[[int], None]
"""Called with the number of bytes that were written since the last call."""


def silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""


def uncounted(nbytes: int) -> None:
    """Count nothing."""


class Pace:
    """Times at which lines of progress are printed: often at first, then each tenth of the time.

    The next line is due max(shortest, elapsed / 10) after the last, and no later than a minute.

    Args:
        shortest: seconds from one line to the next, at first.
    """

    def __init__(self, shortest: float = 10.0) -> None:
        self._shortest = shortest
        self._start = self._last = time.monotonic()

    @property
    def interval(self) -> float:
        """Seconds from the last line to the next."""
        return min(60.0, max(self._shortest, (self._last - self._start) / 10))

    def due(self) -> bool:
        """Return True if a line is due, and count it as printed."""
        now = time.monotonic()
        if now - self._last < self.interval:
            return False
        self._last = now
        return True


def duration(seconds: float) -> str:
    """Return seconds as people read them: 40 ms, 8 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 0.095:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
