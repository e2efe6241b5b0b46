"""Progress of long work on standard error: a bar for each stage on a terminal, lines in a log."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from strop.core.progress import Pace, Progress, duration


@contextlib.contextmanager
def bars(quiet: bool, seconds: float = 10.0) -> Iterator[Progress]:
    """Show each stage of the work inside the block on standard error: a bar, or lines in a log.

    Args:
        quiet: show nothing.
        seconds: until the first line of a log, and between two lines at first, also while a stage
            reports nothing; shorter work prints none.
    """
    console = Console(stderr=True)
    if quiet or console.is_terminal:
        with _drawn(console, quiet) as progress:
            yield progress
        return
    stages = _Stages()
    stopped = threading.Event()
    writer = threading.Thread(
        target=_print_lines, args=(stages, stopped, Pace(seconds)), daemon=True
    )
    writer.start()
    try:
        yield stages.report
    finally:
        stopped.set()
        writer.join()


@contextlib.contextmanager
def _drawn(console: Console, quiet: bool) -> Iterator[Progress]:
    display = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=quiet,
    )
    tasks: dict[str, TaskID] = {}

    def progress(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = display.add_task(stage)
        display.update(tasks[stage], completed=done, total=total or None)

    with display:
        yield progress


class _Stages:
    """The stage that work is in, and since when."""

    def __init__(self) -> None:
        self._started = self._since = time.monotonic()
        self._stage, self._first, self._done, self._total = "", 0, 0, 0

    def report(self, stage: str, done: int, total: int) -> None:
        """Take what the work reports; the form is that of `Progress`."""
        if stage != self._stage:
            self._since, self._first = time.monotonic(), done
        self._stage, self._done, self._total = stage, done, total

    def line(self) -> str:
        """Return a line: stage, parts done, time so far, time left of the stage."""
        now = time.monotonic()
        parts = [self._stage or "starting"]
        if self._total:
            parts.append(f"{self._done:,} of {self._total:,}")
        elif self._done:
            parts.append(f"{self._done:,}")
        parts.append(f"{duration(now - self._started)} so far")
        if (gained := self._done - self._first) > 0 and self._total > self._done:
            left = (self._total - self._done) / gained * (now - self._since)
            parts.append(f"about {duration(left)} left of this stage")
        return ", ".join(parts)


def _print_lines(stages: _Stages, stopped: threading.Event, pace: Pace) -> None:
    while not stopped.wait(pace.interval):
        if pace.due():
            sys.stderr.write(stages.line() + "\n")
            sys.stderr.flush()
