"""`strop train`: gathers the settings of a run, trains, and says where the result lies."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from strop.cli.flags import UsageError, from_text, read_yaml
from strop.planning.settings import Settings, described


def settings_from(given: Mapping[str, Any], config: Path | None) -> dict[str, Any]:
    """Return the settings that a YAML file and flags name; flags win.

    Raises:
        ConfigError: lists every setting that is unknown or cannot work.
    """
    types = {name: hint for name, (hint, _, _) in described().items()}
    flags = {
        name: from_text(value, types[name]) if isinstance(value, str) else value
        for name, value in given.items()
    }
    chosen = {**(read_yaml(config) if config else {}), **flags}
    Settings.read(chosen)
    return chosen


def train_run(
    given: Mapping[str, Any], *, config: Path | None, resume: Path | None
) -> dict[str, Any]:
    """Train or go on training, and return where the run is and what it cost.

    Raises:
        UsageError: there is nothing to train on.
        StropError: the settings, the data or the model cannot be used.
    """
    chosen = settings_from(given, config)
    data = chosen.pop("data", None)
    if data is None and resume is None:
        raise UsageError("strop train needs DATA, as in: strop train rows.jsonl --out runs/tone")
    from strop.training import train

    start = time.perf_counter()
    run = train(data, resume=resume, **chosen)
    seconds = round(time.perf_counter() - start, 1)
    return {
        "run": str(run.path),
        "finished": run.finished,
        "report": str(run.report),
        "seconds": seconds,
    }


def show(result: dict[str, Any]) -> None:
    """Say where the run lies and what to do with it."""
    console = Console()
    run = result["run"]
    steps = f"strop eval {run} ROWS, or strop chat {run}"
    if not result["finished"]:
        steps = f"strop train --resume {run}"
    for name, what in (("run", run), ("report", result["report"]), ("next", steps)):
        console.print(f"{name:7} {what}", soft_wrap=True, highlight=False)
