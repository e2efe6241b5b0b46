"""How far a piece of work is, as bars on standard error."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from strop.core.progress import Progress


def bars(quiet: bool) -> Bars:
    """Return a display of one bar for each stage, which vanishes when the work is done."""
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=quiet,
    )


def shown_in(display: Bars) -> Progress:
    """Return the progress of work, shown as a bar for each of its stages."""
    tasks: dict[str, Any] = {}

    def progress(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = display.add_task(stage)
        display.update(tasks[stage], completed=done, total=total or None)

    return progress
