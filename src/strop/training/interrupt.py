"""Ctrl-C asks a run to stop after the current step; a second one stops it at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import rich.console


class Interrupt:
    """Whether someone asked the run to stop."""

    def __init__(self) -> None:
        self.asked = False

    @contextlib.contextmanager
    def listening(self, console: rich.console.Console) -> Iterator[None]:
        """Take SIGINT and SIGTERM inside the block and give them back after it.

        Outside the main thread, where Python allows no handlers, signals stay as they are.
        """

        def ask(number: int, frame: FrameType | None) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            console.print("stopping after this step; again to stop at once without saving")

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
