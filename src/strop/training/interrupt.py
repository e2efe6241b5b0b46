"""Interruption: Ctrl-C stops a run after the current step, a second one at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import rich.console


class Interrupt:
    """A request to stop the run, by SIGINT or SIGTERM."""

    def __init__(self) -> None:
        self.requested = False

    @contextlib.contextmanager
    def listening(self, console: rich.console.Console) -> Iterator[None]:
        """Handle SIGINT and SIGTERM inside the block; restore their handlers after it.

        Outside the main thread, where Python allows no handlers, signals stay as they are.
        """

        def request(number: int, _: FrameType | None) -> None:
            if self.requested:
                raise KeyboardInterrupt
            self.requested = True
            console.print("stopping after this step; again to stop at once without saving")

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
