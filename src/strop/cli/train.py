"""`strop train`: gathers the settings of a run, and shows where the run is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from strop.cli.flags import UsageError, from_text, read_yaml
from strop.planning.settings import described


def settings_from(given: Mapping[str, Any], config: Path | None) -> dict[str, Any]:
    """Return the settings that a YAML file and flags name; flags win.

    Raises:
        ConfigError: the file holds no settings.
    """
    types = {name: hint for name, (hint, _, _) in described().items()}
    flags = {
        name: from_text(value, types[name]) if isinstance(value, str) else value
        for name, value in given.items()
    }
    return {**(read_yaml(config) if config else {}), **flags}


def run_training(
    given: Mapping[str, Any], *, config: Path | None, resume: Path | None, overwrite: bool
) -> dict[str, Any]:
    """Train with the settings of a file and flags.

    Raises:
        UsageError: there is nothing to train on.
        StropError: the settings, the data or the model cannot be used.
    """
    from strop.actions.train import train

    settings = settings_from(given, config)
    if settings.get("data") is None and resume is None:
        raise UsageError("strop train needs DATA, as in: strop train rows.jsonl --out runs/tone")
    return train(settings, resume=resume, overwrite=overwrite)


def show(result: dict[str, Any]) -> None:
    """Print where the run is and what to do with it."""
    console = Console()
    run = result["run"]
    steps = f"strop eval {run} ROWS, or strop chat {run}"
    if not result["finished"]:
        steps = f"strop train --resume {run}"
    for name, what in (("run", run), ("report", result["report"]), ("next", steps)):
        console.print(f"{name:7} {what}", soft_wrap=True, highlight=False)
