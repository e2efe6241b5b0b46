"""How far a piece of work is, as bars on standard error."""

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


def bars(quiet: bool) -> Progress:
    """Return a display of one bar for each stage, which vanishes when the work is done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=quiet,
    )


def teller(display: Progress) -> Callable[[str, int, int], None]:
    """Return what the work calls with a stage, how much of it is done, and how much there is."""
    tasks: dict[str, Any] = {}

    def tell(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = display.add_task(stage)
        display.update(tasks[stage], completed=done, total=total or None)

    return tell
