"""Commands, their options and their help; each loads what it needs when it runs."""

import functools
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import strop
from strop.cli.data import data as data_commands
from strop.cli.export import export, push
from strop.cli.flags import UsageError
from strop.cli.options import (
    Ignored,
    Instruction,
    Json,
    Names,
    Target,
    Uncertified,
    columns,
)
from strop.cli.output import bars, fail, respond
from strop.cli.serve import serve
from strop.cli.settings_command import Command, with_settings
from strop.core.errors import StropError
from strop.core.quiet import quiet

app = typer.Typer(
    name="strop",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Fine-tune open language models on the hardware people have.",
    epilog="Example: strop train rows.jsonl --out runs/tone, then strop eval runs/tone test.jsonl",
)

app.add_typer(data_commands)

STOPPED = 130
"""Exit code of a training that Ctrl-C ended before its last step, as in shells."""


def run() -> None:
    """Run the command line; errors end as one message and an exit code, 2 for wrong usage."""
    as_json = "--json" in sys.argv
    try:
        with quiet():
            app()
    except SystemExit as e:
        if as_json and e.code == 2:
            fail("the command line cannot be used; standard error says why", as_json=True)
        raise
    except UsageError as e:
        fail(str(e), as_json=as_json)
        sys.exit(2)
    except StropError as e:
        fail(str(e), as_json=as_json)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Fine-tune open language models on the hardware people have."""
    if show:
        respond(
            lambda: {"version": strop.__version__},
            lambda result: typer.echo(f"strop {result['version']}"),
            as_json=as_json,
        )
        raise typer.Exit


@app.command(cls=Command, epilog="Example: strop doctor")
def doctor(as_json: Json = False) -> None:
    """Show what this machine has, how fast it is, and which packaged models are installed."""
    from strop.actions.doctor import examine
    from strop.cli.doctor import show

    respond(examine, show, as_json=as_json)


@app.command(cls=Command, epilog="Example: strop train rows.jsonl --out runs/tone --epochs 2")
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
    resume: Annotated[Path | None, typer.Option(help="Resume this interrupted run.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run in --out first.")
    ] = False,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Fine-tune a model on rows of data and keep everything in a run folder."""
    from strop.cli.train import run_training, show

    sources = data[0] if data and len(data) == 1 else data or None
    arguments = {"data": sources, "model": model, "out": out}
    given.update({name: value for name, value in arguments.items() if value is not None})
    work = functools.partial(run_training, given, config=config, resume=resume, overwrite=overwrite)
    if not respond(work, show, as_json=as_json)["finished"]:
        raise typer.Exit(STOPPED)


@app.command("eval", cls=Command, epilog="Example: strop eval runs/tone held_out.jsonl --limit 300")
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
    from strop.cli.evaluate import show

    read_as = columns(names, ignore_columns, instruction)
    respond(
        lambda: action.evaluate(target, data, limit=limit, seed=seed, columns=read_as),
        show,
        as_json=as_json,
    )


@app.command(
    cls=Command,
    epilog="Example: strop quantize smollm2-135m-instruct --budget 1.10 --out models/smollm2-4bit",
)
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
    from strop.cli.quantize import show

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


@app.command(cls=Command, epilog='Example: strop chat runs/tone --say "Shares rose sharply."')
def chat(
    target: Target,
    say: Annotated[
        str | None,
        typer.Option(help="Ask one question and exit; --json without it reads standard input."),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 256,
    uncertified: Uncertified = False,
    as_json: Json = False,
) -> None:
    """Chat with a run or a model; an empty line ends the conversation."""
    from strop.actions.chat import answer
    from strop.cli.chat import converse, question_from, show

    if say is None and not as_json:
        converse(target, max_tokens=max_tokens, uncertified=uncertified)
        return
    work = functools.partial(answer, max_tokens=max_tokens, uncertified=uncertified)
    respond(lambda: work(target, question_from(say)), show, as_json=as_json)


app.command(cls=Command, epilog="Example: strop serve runs/tone runs/style --port 8080")(serve)
app.command(cls=Command, epilog="Example: strop export runs/tone --to merged,gguf --quant q8_0")(
    export
)
app.command(cls=Command, epilog="Example: strop push runs/tone/export/merged me/tone")(push)
