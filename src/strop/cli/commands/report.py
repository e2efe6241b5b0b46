"""`strop report`: the page of a run, or one that compares several."""

import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from strop.cli.options import Json
from strop.cli.output import respond


def report(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run folders; several are compared.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write. Default: report.html of the run; comparison.html for several."
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write a run as one self-contained page, or compare several runs on one page."""
    from strop.actions import report as action

    result = respond(lambda: action.report(runs, out), _show, as_json=as_json)
    if show:
        webbrowser.open(Path(result["report"]).absolute().as_uri())


def _show(result: dict[str, Any]) -> None:
    """Print where the page is, and which runs could not be paired."""
    print(result["report"])
    for run, between in zip(result["runs"][1:], result.get("between", ()), strict=True):
        if between is None:
            print(f"{run} was not evaluated on the rows of {result['runs'][0]}: not paired with it")
