"""`strop plan` and `strop import-config`: what a training would do, and settings of other tools."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from strop.cli.commands.train import settings_from
from strop.cli.flags import UsageError
from strop.cli.options import Json
from strop.cli.output import respond
from strop.cli.settings_command import with_settings


@with_settings
def plan(
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help="JSONL, JSON, CSV or Parquet, as for strop train."),
    ],
    model: Annotated[
        str | None, typer.Option(help="A packaged model, a folder, a GGUF file or a hub name.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where it would run: cpu, cpu:8GB, cuda:24GB, cuda:a100.")
    ] = "cpu",
    config: Annotated[
        Path | None, typer.Option(help="Settings in YAML; flags override them.")
    ] = None,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Show settings, memory and time of a training before it: each value with its reason.

    Time is predicted from two micro-batches timed on this machine, once for each model; for a device
    that is not here it is estimated from its data sheet.
    """
    arguments = {"data": data[0] if len(data) == 1 else data, "model": model}
    given.update({name: value for name, value in arguments.items() if value is not None})

    def work() -> dict[str, Any]:
        from strop.actions.plan import plan as planned
        from strop.core.system.terminal import bars

        settings = settings_from(given, config)
        if settings.get("data") is None:
            raise UsageError("strop plan needs DATA, as in: strop plan rows.jsonl --memory 4GB")
        with bars(quiet=as_json) as progress:
            return planned(settings, device=device, progress=progress)

    respond(work, show, as_json=as_json)


def show(result: dict[str, Any]) -> None:
    """Print the table, the cost, the alternatives and the models."""
    from strop.core.progress import duration
    from strop.core.system.disk import format_size
    from strop.planning.forecast.forecast import Forecast
    from strop.planning.forecast.run_plan import spoken

    console = Console()
    table = Table(box=None, pad_edge=False)
    for heading in ("setting", "value", "why", "changed by"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "setting")
    for choice in result["choices"]:
        shown = spoken(choice["value"])
        table.add_row(choice["setting"], shown, choice["reason"], choice["changed_by"])
    console.print(table, highlight=False, markup=False)
    console.print()
    lines = [f"{'model':9} {result['model']} on {result['device']}"]
    forecast = result["forecast"]
    if forecast:
        lines += [f"{'memory':9} {_memory(forecast)}"] if forecast["peak"] else []
        lines.append(f"{'time':9} {Forecast(**forecast).sentence}")
    for other in result["alternatives"]:
        flags = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in other["settings"].items())
        size = format_size(other["peak"]) + ", " if other["peak"] else ""
        lines.append(f"{other['name']:9} {flags}: {size}{duration(other['seconds'])}")
    for row in result["models"]:
        time = "time not predicted" if row["seconds"] is None else duration(row["seconds"])
        what = row.get("obstacle") or f"{'about ' if row.get('about') else ''}{_size(row)}{time}"
        best = ", the largest that suits" if row["model"] == result["suits"] else ""
        lines.append(f"{'at hand':9} {row['model']}: {what}{best}")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _memory(forecast: dict[str, Any]) -> str:
    from strop.core.system.disk import format_size

    low, high = format_size(forecast["peak_low"]), format_size(forecast["peak_high"])
    return f"predicted {format_size(forecast['peak'])} at the peak ({low} to {high})"


def _size(row: dict[str, Any]) -> str:
    from strop.core.system.disk import format_size

    return f"{format_size(row['peak'])}, " if row["peak"] else ""


def import_config(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Of Axolotl, LLaMA-Factory or Unsloth, YAML or JSON."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="YAML file to write. Default: it is printed.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: Json = False,
) -> None:
    """Turn a training configuration of another tool into settings for strop train --config.

    Each key that has no counterpart is named, with why and with the way that strop has.
    """
    from strop.core.files import check_new, written_whole

    def work() -> dict[str, Any]:
        import dataclasses

        import yaml

        from strop.compat.configs import import_config as imported

        if out is not None:
            check_new(out, overwrite=overwrite)
        config = imported(file)
        text = yaml.safe_dump(config.settings, sort_keys=False, allow_unicode=True)
        if out is not None:
            with written_whole(out) as scratch:
                scratch.write_text(text, encoding="utf-8")
        return {
            **dataclasses.asdict(config),
            "out": None if out is None else str(out),
            "yaml": text,
        }

    respond(work, _show_imported, as_json=as_json)


def _show_imported(result: dict[str, Any]) -> None:
    """Print the settings or where they are, and on standard error what is not in them."""
    console = Console(stderr=True)
    lines = [f"# {len(result['settings'])} settings from a configuration of {result['source']}"]
    lines += [f"# without counterpart: {one['key']}: {one['reason']}" for one in result["left_out"]]
    lines += [f"# not needed: {one['key']}: {one['reason']}" for one in result["unneeded"]]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if result["out"] is None:
        typer.echo(result["yaml"], nl=False)
    else:
        named = "" if "data" in result["settings"] else "rows.jsonl "
        typer.echo(f"strop train {named}--config {result['out']}")
