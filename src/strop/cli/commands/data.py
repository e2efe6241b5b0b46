"""`strop data`: errors in data, and rows as the model will see them."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from strop.cli.flags import UsageError
from strop.cli.options import Encoding, Ignored, Instruction, Json, Names, columns
from strop.cli.output import is_unicode, respond
from strop.cli.settings_command import Command
from strop.core.errors import flag
from strop.core.system.terminal import bars
from strop.core.system.visible import visible

data = typer.Typer(
    name="data",
    no_args_is_help=True,
    help="Look at data before training on it.",
    epilog="Example: strop data check rows.jsonl, then strop data show rows.jsonl",
)

File = Annotated[str, typer.Argument(metavar="FILE", help="A file, a folder, or hf:owner/name.")]
Model = Annotated[str | None, typer.Option(help="Model to be trained, whose tokens are counted.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Tokens at which training will cut rows.")]

_COLOUR = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_PIECE = {
    "supervised": "black on green",
    "context": "",
    "special": "dim italic",
    "special_supervised": "italic black on bright_green",
    "cut": "dim strike",
}


@data.command(
    "check",
    cls=Command,
    epilog="Example: strop data check rows.jsonl --model smollm2-135m-instruct",
)
def check_command(
    file: File,
    model: Model = None,
    max_length: Limit = None,
    held_out: Annotated[
        str | None, typer.Option(help="Test data: rows that are in both files are reported.")
    ] = None,
    names: Names = None,
    ignore_columns: Ignored = None,
    instruction: Instruction = None,
    encoding: Encoding = None,
    speed: Annotated[
        float | None,
        typer.Option(min=1, help="Tokens per second in training, to estimate the time."),
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(help="Write the cleaned rows to this file, and the changes beside it."),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write the histogram of lengths to this SVG file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Report errors in data, what is learned from it and its cost; exit 1 if one is severe."""
    _check_options(model, fix, max_length=max_length, speed=speed, picture=picture)
    read_as = columns(names, ignore_columns, instruction, encoding)

    def work() -> dict[str, Any]:
        from strop.actions import data as actions

        with bars(quiet=as_json) as progress:
            report = actions.check(
                file,
                model,
                max_length=max_length,
                held_out=held_out,
                columns=read_as,
                speed=speed,
                progress=progress,
            )
        if picture is not None and report["lengths"] is not None:
            actions.draw_lengths(report["lengths"]["histogram"], picture)
        if fix is not None:
            report["fixed"] = actions.fix(file, fix, columns=read_as)
        return report

    result = respond(work, _show_report, as_json=as_json)
    if result["severe"]:
        raise typer.Exit(1)


@data.command(
    "show",
    cls=Command,
    epilog="Example: strop data show rows.jsonl --row 3 --model smollm2-135m-instruct",
)
def show_command(
    file: File,
    row: Annotated[
        int | None,
        typer.Option(
            help="Line of the file at which the row begins. Default: that of the first row."
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="Model to be trained.")] = "smollm2-135m-instruct",
    max_length: Limit = None,
    names: Names = None,
    ignore_columns: Ignored = None,
    instruction: Instruction = None,
    encoding: Encoding = None,
    as_json: Json = False,
) -> None:
    """Show one row as the model will see it: learned, context, special tokens, cut off."""
    read_as = columns(names, ignore_columns, instruction, encoding)

    def work() -> dict[str, Any]:
        from strop.actions import data as actions

        return actions.show(file, row, model=model, max_length=max_length, columns=read_as)

    respond(work, _show_pieces, as_json=as_json)


def _check_options(model: str | None, fix: Path | None, **of_tokens: Any) -> None:
    """Refuse options without effect before the data is read."""
    given = [flag(name) for name, value in of_tokens.items() if value is not None]
    if model is None and given:
        raise UsageError(f"{', '.join(given)} needs --model, whose tokens are counted")
    if fix is not None and fix.suffix != ".jsonl":
        raise UsageError(f"--fix {fix}: the cleaned rows are JSONL; end the name in .jsonl")


def _show_report(result: dict[str, Any]) -> None:
    console = Console()
    console.print(
        f"{result['source']}: {result['usable']:,} of {result['rows']:,} rows can be used; "
        f"format {result['format'] or 'unknown'} (columns: "
        + ", ".join(
            f"{visible(name)} in {count:,}" for name, count in list(result["columns"].items())[:8]
        )
        + ")",
        highlight=False,
        markup=False,
        soft_wrap=not console.is_terminal,
    )
    if result["lengths"] is not None:
        _show_lengths(console, result)
    for finding in result["findings"]:
        line = Text(f"{finding['severity']:8}", style=_COLOUR[finding["severity"]])
        line.append(f"{finding['kind']}: ", style="bold").append(
            visible(finding["message"]), style="default"
        )
        console.print(line, soft_wrap=not console.is_terminal)
        if finding["rows"]:
            from strop.data.rows import format_lines

            _indented(console, _shortened(format_lines(finding["rows"])), "dim")
        if finding["example"]:
            _indented(console, f"for example: {visible(finding['example'])}", "dim")
        _indented(console, finding["remedy"])
    if not result["findings"]:
        console.print("no errors and no warnings")
    if "fixed" in result:
        fixed = result["fixed"]
        console.print(
            f"{fixed['sentence']}; the cleaned rows are in {fixed['file']}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _indented(console: Console, text: str, style: str = "") -> None:
    """Print a text below a finding, on a terminal each of its lines indented."""
    if console.is_terminal:
        console.print(Padding(Text(text, style=style), (0, 0, 0, 9)))
    else:
        console.print(Text(" " * 9 + text), soft_wrap=True)


def _shortened(text: str) -> str:
    return text if len(text) <= 90 else text[:90].rsplit(",", 1)[0] + ", …"


def _show_lengths(console: Console, result: dict[str, Any]) -> None:
    lengths = result["lengths"]
    share = 100 * lengths["supervised"] / max(1, lengths["tokens"])
    time = f", about {result['minutes']:.0f} minutes an epoch" if result.get("minutes") else ""
    table = Table(
        title=f"{lengths['tokens']:,} tokens, {share:.0f} % learned, median {lengths['median']}, "
        f"95 % up to {lengths['p95']}, longest {lengths['longest']}{time}",
        show_header=False,
        box=None,
    )
    most = max(count for _, _, count in lengths["histogram"])
    for low, high, count in lengths["histogram"]:
        table.add_row(
            f"{low}-{high - 1}",
            ("█" if is_unicode() else "#") * round(40 * count / most),
            f"{count:,}",
        )
    console.print(table)


def _show_pieces(result: dict[str, Any]) -> None:
    console = Console()
    text = Text()
    for piece in result["pieces"]:
        part, marked = visible(piece["text"]), console.no_color or not console.is_terminal
        if marked and piece["kind"] in ("supervised", "special_supervised"):
            part = f"[[{part}]]"
        text.append(part, style=_PIECE[piece["kind"]])
    console.print(text, soft_wrap=True)
    from strop.data.preview import MEANING

    kinds = dict.fromkeys(MEANING, 0)
    for piece in result["pieces"]:
        kinds[piece["kind"]] += piece["tokens"]
    legend = Text("\n")
    for kind, count in kinds.items():
        if count:
            legend.append(MEANING[kind], style=_PIECE[kind]).append(f" {count}  ")
    console.print(legend)
