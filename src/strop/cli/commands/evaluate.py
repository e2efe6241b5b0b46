"""`strop eval`: tables of what was measured, with 95 % intervals."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from strop.cli.options import Ignored, Instruction, Json, Names, Target, columns
from strop.cli.output import respond


def evaluate(
    target: Target,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="JSONL, JSON, CSV or Parquet; without it the rows that the run held out.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Number of rows to use. Default: all.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the rows drawn and of the bootstrap.")] = 0,
    names: Names = None,
    ignore_columns: Ignored = None,
    instruction: Instruction = None,
    as_json: Json = False,
) -> None:
    """Measure a run, and the model it started from, on rows it has not seen."""
    from strop.actions import evaluate as action

    read_as = columns(names, ignore_columns, instruction)
    respond(
        lambda: action.evaluate(target, data, limit=limit, seed=seed, columns=read_as),
        show,
        as_json=as_json,
    )


def show(result: dict[str, Any]) -> None:
    """Print each measure with its interval, and the answers for each label."""
    console = Console()
    columns = [name for name in ("base", "tuned", "model") if name in result]
    table = Table(title=f"{result[columns[0]]['rows']} rows of {result['data']}, 95 % intervals")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    table.add_row("loss", *(_estimate(result[name]["loss"]) for name in columns))
    table.add_row("perplexity", *(_estimate(result[name]["perplexity"]) for name in columns))
    if result[columns[0]]["accuracy"]:
        table.add_row("accuracy", *(_share(result[name]["accuracy"]) for name in columns))
    console.print(table)
    if note := result[columns[-1]]["note"]:
        console.print(note, soft_wrap=True, highlight=False)
    if (confusion := result[columns[-1]]["confusion"]) is not None:
        console.print(_confusion(confusion, columns[-1]))


def _estimate(measure: dict[str, Any]) -> str:
    low, high = measure["interval"]
    return f"{measure['value']:.3f}  ({low:.3f} to {high:.3f})"


def _share(measure: dict[str, Any]) -> str:
    value, low, high = (100 * x for x in (measure["value"], *measure["interval"]))
    return f"{value:.1f} %  ({low:.1f} to {high:.1f})"


def _confusion(confusion: dict[str, dict[str, int]], name: str) -> Table:
    table = Table(title=f"answers of the {name} model: a row for each right label")
    table.add_column("right \\ answered")
    for label in confusion:
        table.add_column(label, justify="right")
    table.add_column("right", justify="right")
    for right, chosen in confusion.items():
        share = 100 * chosen[right] / max(1, sum(chosen.values()))
        table.add_row(right, *map(str, chosen.values()), f"{share:.1f} %")
    return table
