"""`strop models`, `quantize` and `merge`: models at hand, one in few bits, several runs as one."""

from collections import Counter
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from strop.cli.flags import numbers_of
from strop.cli.options import Json
from strop.cli.output import respond
from strop.core.system.terminal import bars

WIDE = 110
"""Columns of a terminal from which licences and templates are shown, too."""
_NAME = 36
"""Characters up to which a name is never divided."""


def models(
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FOLDER...]", help="Where to look for models. Default: this folder."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List models: packaged, cached, in folders, known to work; with licence and memory needed.

    Memory is that of weights and a conversation or a training step of 1,024 tokens, LoRA of rank 16;
    strop plan predicts it for rows of your own.
    """
    from strop.actions import models as action

    respond(lambda: action.models(folders or ["."]), _show_models, as_json=as_json)


def _show_models(result: dict[str, Any]) -> None:
    """Print a table of the models, then what brings or mends those that cannot be used yet."""
    console, free = Console(), result["free"]
    table = Table(box=None, pad_edge=False)
    longest = max(len(row["name"]) for row in result["models"])
    table.add_column("model", overflow="fold", min_width=min(_NAME, longest))
    columns = ("from", "weights", "licence", "template")[: 4 if console.width >= WIDE else 2]
    for heading in columns:
        table.add_column(heading)
    for heading in ("answers", "QLoRA", "LoRA"):
        table.add_column(heading, justify="right")
    for row in result["models"]:
        needs = row["memory"] or {}
        sizes = [_memory(needs.get(name), free) for name in ("inference", "qlora", "lora")]
        weights = "" if row["parameters"] is None else f"{row['parameters'] / 1e9:.2g}B"
        source = row["source"] if row["present"] else "absent"
        words = (source, weights, row["license"] or "–", row["template"] or "–")
        table.add_row(row["name"], *words[: len(columns)], *sizes)
    console.print(table, highlight=False, markup=False)
    lines = [f"in GB, of which {free / 1e9:.1f} are free here; ! needs more"]
    for row in result["models"]:
        if row["obstacle"]:
            lines.append(f"{row['name']}: {row['obstacle']}")
        elif row["command"] and row["source"] != "hub":
            lines.append(f"{row['name']}: {row['command']}")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _memory(size: int | None, free: int) -> str:
    return "–" if size is None else f"{size / 1e9:.1f}" + ("!" if size > free else "")


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
    from strop.actions import models as action

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

    respond(work, _show_quantized, as_json=as_json)


def _show_quantized(result: dict[str, Any]) -> None:
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


def merge(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Finished runs on one model.")
    ],
    out: Annotated[str, typer.Option(help="Folder of the result, which is a run itself.")],
    weights: Annotated[
        str | None,
        typer.Option(help="One number a run, joined by commas. Default: all alike, 1 together."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="cat adds the updates exactly, with all their ranks; linear, svd, ties, dare_linear, "
            "dare_ties, magnitude_prune and their _svd forms as PEFT has them."
        ),
    ] = "cat",
    density: Annotated[
        float, typer.Option(help="Share of values that ties, dare and magnitude_prune keep.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Decides which values dare drops.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is in --out.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Merge the adapters of several runs into one, which strop eval, chat and export take."""
    from strop.actions import models as action

    numbers = None if weights is None else numbers_of(weights, "--weights")

    def work() -> dict[str, Any]:
        return action.merge(
            runs,
            out,
            weights=numbers,
            method=method,
            density=density,
            seed=seed,
            overwrite=overwrite,
        )

    respond(work, _show_merged, as_json=as_json)


def _show_merged(result: dict[str, Any]) -> None:
    """Print where the result is, and what to do with it."""
    console = Console()
    run = result["run"]
    steps = f"strop eval {run} test.jsonl, strop chat {run}, strop export {run} --to merged"
    for name, what in (("run", run), ("adapter", result["adapter"]), ("next", steps)):
        console.print(f"{name:8} {what}", soft_wrap=True, highlight=False)
