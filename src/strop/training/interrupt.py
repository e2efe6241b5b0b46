"""Interruption: Ctrl-C stops a run after the current step, a second one at once."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import rich.console

from strop.core.system.output import drop_output


class Interrupt:
    """A request to stop the run, by SIGINT, SIGTERM, or SIGHUP as a closed terminal sends it."""

    def __init__(self) -> None:
        self.requested = False

    @contextlib.contextmanager
    def listening(self, console: rich.console.Console) -> Iterator[None]:
        """Handle the signals inside the block; restore their handlers after it.

        Outside the main thread, where Python allows no handlers, signals stay as they are. SIGHUP
        that is ignored, as under nohup, stays ignored; one that came is ignored after the block.
        """

        def request(number: int, _: FrameType | None) -> None:
            if self.requested:
                raise KeyboardInterrupt
            self.requested = True
            console.print("stopping after this step; again to stop at once without saving")

        def hang_up(number: int, _: FrameType | None) -> None:
            self.requested = True  # shell and kernel may send one each, so two are no haste
            drop_output(terminals)
            if sys.platform != "win32":  # which has no such signal
                before[signal.SIGHUP] = signal.SIG_IGN

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        terminals = [fd for fd in (1, 2) if _is_terminal(fd)]
        handlers = {signal.SIGINT: request, signal.SIGTERM: request}
        if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handlers[signal.SIGHUP] = hang_up
        before = {number: signal.signal(number, handle) for number, handle in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:  # closed
        return False
