"""`strop export` and `strop push`: exports with their certificates, and the upload of one."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from strop.cli.options import Json
from strop.cli.output import respond
from strop.core.system.disk import format_size
from strop.core.system.terminal import bars


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    to: Annotated[
        str, typer.Option(help="adapter, merged, gguf, ollama, bnb; several joined by commas.")
    ],
    quant: Annotated[
        str,
        typer.Option(
            help="Variants of gguf and ollama: formats such as q8_0,q4_k_m; dynamic-1.10, formats by "
            "sensitivity in 1.10 times the bytes of q4_0; adapter, the adapter alone."
        ),
    ] = "f16",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write into. Default: RUN/export.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Rows to compare on. Default: those the run held out.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Number format of merged weights: float32, bfloat16, float16. Default: the base's."
        ),
    ] = None,
    certify: Annotated[
        bool, typer.Option("--certify/--no-certify", help="Open each export and compare it.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Write a run for other programs, and certify that each export agrees with the trained model."""
    from strop.actions import export as action

    options = {"quant": quant, "out": out, "data": data, "dtype": dtype, "certified": certify}

    def work() -> dict[str, Any]:
        with bars(quiet=as_json) as progress:
            return action.export(run, to.split(","), progress=progress, **options)

    result = respond(work, _show, as_json=as_json)
    if not result["certified"]:
        raise typer.Exit(1)


def push(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder of one export of a run.")],
    repo: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository on the hub.")],
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public (default: private).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Upload a certified export to the Hugging Face hub, or the one that HF_ENDPOINT names."""
    from strop.actions import push as action

    respond(lambda: action.push(folder, repo, public=public), _show_upload, as_json=as_json)


def _show(result: dict[str, Any]) -> None:
    """Print where each export is and what its certificate says."""
    console = Console()
    for entry in result["exports"]:
        size = format_size(entry["bytes"])
        console.print(f"{entry['path']}  {size}", soft_wrap=True, highlight=False)
        if (certificate := entry["certificate"]) is None:
            console.print("  not certified, as requested")
            continue
        mark = "[green]certified[/]" if certificate["passed"] else "[red]FAILED[/]"
        console.print(f"  {mark}  {certificate['sentence']}", soft_wrap=True, highlight=False)
        for sentence in [*certificate["faults"][1:6], *certificate["notes"]]:
            console.print(f"          {sentence}", soft_wrap=True, highlight=False)
        if certificate["passed"] and (step := _next_step(entry)):
            console.print(f"  next       {step}", soft_wrap=True, highlight=False)


def _next_step(entry: dict[str, Any]) -> str:
    """Return a command that uses an export."""
    path = entry["path"]
    if entry["target"] == "ollama":
        return f"ollama create NAME -f {path}/Modelfile"
    return (
        {
            "merged": f"strop push {path} USER/NAME",
            "gguf": f"strop chat {path}/model.gguf",
            "adapter": f"strop push {path} USER/NAME",
        }.get(entry["target"], "")
        if "adapter" not in entry["format"]
        else ""
    )


def _show_upload(result: dict[str, Any]) -> None:
    """Print where the upload is."""
    print(f"{result['folder']} is at {result['commit']}")
