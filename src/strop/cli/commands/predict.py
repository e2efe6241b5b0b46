"""`strop predict`: a file of rows with an answer to each."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from strop.cli.options import Ignored, Instruction, Json, Names, Target, columns
from strop.cli.output import respond
from strop.core.system.terminal import bars


def predict(
    target: Target,
    data: Annotated[
        Path, typer.Argument(help="JSONL, JSON, CSV or Parquet; answers may be missing.")
    ],
    out: Annotated[Path, typer.Option(help="File to write: .jsonl, .csv, .tsv or .parquet.")],
    labels: Annotated[
        str | None,
        typer.Option(help="Answers to choose among: good,bad. Default: those of the run's data."),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of a generated answer.")] = 256,
    limit: Annotated[int | None, typer.Option(help="Answer only the first rows.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    names: Names = None,
    ignore_columns: Ignored = None,
    instruction: Instruction = None,
    as_json: Json = False,
) -> None:
    """Answer each row of a file; a killed command goes on where it was."""
    from strop.actions import predict as action

    read_as = columns(names, ignore_columns, instruction)

    def work() -> dict[str, Any]:
        with bars(quiet=as_json) as progress:
            return action.predict(
                target,
                data,
                out,
                columns=read_as,
                progress=progress,
                labels=None if labels is None else [x.strip() for x in labels.split(",")],
                max_new_tokens=max_tokens,
                limit=limit,
                overwrite=overwrite,
            )

    respond(work, show, as_json=as_json)


def show(result: dict[str, Any]) -> None:
    """Print what was written, and the rows without an answer."""
    console = Console()
    kind = "answered" if result["labels"] is None else f"labelled {', '.join(result['labels'])}"
    before = f", {result['resumed']:,} of them by an earlier command" if result["resumed"] else ""
    sentences = [
        f"{result['rows']:,} rows {kind}{before}",
        f"written to {result['out']}, with the columns {', '.join(result['columns'])}",
        *result["notes"],
    ]
    for sentence in sentences:
        console.print(sentence, soft_wrap=True, highlight=False, markup=False)
