"""`strop train`: gathers the settings of a run, and shows where the run is."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from strop.cli.flags import UsageError, from_text, read_yaml
from strop.cli.options import Json
from strop.cli.output import respond
from strop.cli.settings_command import with_settings
from strop.planning.settings import described

STOPPED = 130
"""Exit code of a training that was interrupted before its last step, as in shells."""
DIVERGED = 3
"""Exit code of a training whose loss ended as no number, or clearly above what it began with."""


@with_settings
def train(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA...",
            help="JSONL, JSON, CSV or Parquet; several with weights, as a.jsonl b.csv:0.5; none "
            "with --resume.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A packaged model, a folder, a GGUF file or a hub name.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="New run folder.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings in YAML; flags override them.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue this interrupted run.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run in --out first.")
    ] = False,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Fine-tune a model on rows of data and keep everything in a run folder.

    Exit code 3: the run diverged (the loss is no number, or the held-out loss ended clearly above
    its first value); 130: it was interrupted and can be resumed.
    """
    sources = data[0] if data and len(data) == 1 else data or None
    arguments = {"data": sources, "model": model, "out": out}
    given.update({name: value for name, value in arguments.items() if value is not None})
    work = functools.partial(run_training, given, config=config, resume=resume, overwrite=overwrite)
    result = respond(work, show, as_json=as_json)
    if not result["finished"]:
        raise typer.Exit(STOPPED)
    if result["diverged"]:
        raise typer.Exit(DIVERGED)


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
    if not any((settings.get("data"), settings.get("environment"), resume)):
        raise UsageError("strop train needs DATA, as in: strop train rows.jsonl --out runs/tone")
    return train(settings, resume=resume, overwrite=overwrite)


def show(result: dict[str, Any]) -> None:
    """Print where the run is and what to do with it."""
    console = Console()
    run = result["run"]
    rows = "" if result["losses"]["held_out_last"] is not None else " test.jsonl"
    steps = f"strop eval {run}{rows} (rows not used in training), or strop chat {run}"
    if result["diverged"]:
        steps = "train again as said above"
    if not result["finished"]:
        steps = f"strop train --resume {run}"
    for name, what in (("run", run), ("report", result["report"]), ("next", steps)):
        console.print(f"{name:7} {what}", soft_wrap=True, highlight=False)
