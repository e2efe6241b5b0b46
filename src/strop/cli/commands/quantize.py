"""`strop quantize`: tables of what was chosen for each layer and what it costs."""

from collections import Counter
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from strop.cli.options import Json
from strop.cli.output import respond
from strop.core.system.terminal import bars


def quantize(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A packaged model, a folder, a GGUF file, a name."),
    ],
    out: Annotated[str, typer.Option(help="Folder to write.")],
    budget: Annotated[
        float | None,
        typer.Option(help="Bytes of the linear layers over those of plain NF4. Default: 1.10."),
    ] = None,
    max_kl: Annotated[
        float | None,
        typer.Option(help="Instead of a budget: largest KL to the original, in nats per token."),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(help="Text or rows like those the model will see. Default: a packaged text."),
    ] = None,
    adapter_rank: Annotated[
        int,
        typer.Option(help="Also write an adapter of this rank that cancels part of the error."),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Store a model in about 4 bits a weight, with more bits where they matter."""
    from strop.actions import quantize as action

    def work() -> dict[str, Any]:
        with bars(quiet=as_json) as progress:
            return action.quantize(
                model,
                out,
                budget=budget,
                max_kl=max_kl,
                calibrate=calibrate,
                adapter_rank=adapter_rank,
                progress=progress,
            )

    respond(work, show, as_json=as_json)


def show(result: dict[str, Any]) -> None:
    """Print the measurements beside plain NF4 and the formats chosen for each kind of layer."""
    from strop.quantization.report import summary

    console = Console()
    sizes = Table(title=f"{result['model']}: {result['bytes_over_nf4']:.3f} × the bytes of NF4")
    for name in ("", "original", "NF4", "strop"):
        sizes.add_column(name, justify="left" if not name else "right")
    nf4, ours = (f"{result[name] / 1e6:,.1f} MB" for name in ("nf4_bytes", "bytes"))
    sizes.add_row("linear layers", "", nf4, ours)
    for line in summary(result["measured"]):
        sizes.add_row(*line)
    console.print(sizes)
    console.print(_choices(result["groups"]))
    if left := result["left_in_16_bits"]:
        console.print(f"{len(left)} layers stay in 16 bits, no format fits: {', '.join(left[:4])}")
    console.print(f"written {result['out']} in {result['seconds']:.0f} s", highlight=False)


def _choices(groups: list[dict[str, Any]]) -> Table:
    """Return a table of groups of layers: format, bytes, expected KL, and that of plain 4 bits."""
    table = Table(title="chosen, with the KL expected of it and of 4 bits")
    for name in ("layers", "format", "MB", "KL", "KL at 4 bits"):
        table.add_column(name, justify="left" if name == "layers" else "right")
    for group in groups:
        first, *others = group["layers"]
        rest = "".join(f", {name.rpartition('.')[2]}" for name in others)
        plain = group["options"].get("4b64") or next(iter(group["options"].values()))
        table.add_row(
            first + rest,
            group["format"],
            f"{group['bytes'] / 1e6:.2f}",
            f"{group['expected_kl']:.5f}",
            f"{plain['expected_kl']:.5f}",
        )
    counts = Counter(group["format"] for group in groups)
    table.caption = ", ".join(f"{count} × {name}" for name, count in sorted(counts.items()))
    return table
