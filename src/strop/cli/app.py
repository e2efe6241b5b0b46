"""The commands, their options and their help; each loads what it needs when it runs."""

import contextlib
import functools
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

import strop
from strop.cli.data import data as data_commands
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
"""Exit code of a training that Ctrl-C ended before its last step, as shells have it."""


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
    """Say what this machine has, how fast it is, and which packaged models are here."""
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
    out: Annotated[str | None, typer.Option(help="The run folder to make.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings in YAML; flags win.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this interrupted run.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run that lies in --out.")
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
    limit: Annotated[int | None, typer.Option(help="Take only this many rows.")] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of rows and the bootstrap.")] = 0,
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
    out: Annotated[str, typer.Option(help="The folder to write.")],
    budget: Annotated[
        float | None,
        typer.Option(help="Bytes of the linear layers over those of plain NF4. Default: 1.10."),
    ] = None,
    max_kl: Annotated[
        float | None,
        typer.Option(help="Instead: the KL to the original that is allowed, in nats per token."),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(help="Text or rows like those of the model's use. Default: a packaged text."),
    ] = None,
    adapter_rank: Annotated[
        int,
        typer.Option(help="Write an adapter of this rank too, that cancels part of the error."),
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
        typer.Option(help="Ask this once and stop; --json without it reads standard input."),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="The longest answer, in tokens.")] = 256,
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


@app.command(cls=Command, epilog="Example: strop serve runs/tone runs/style --port 8080")
def serve(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="RUN|GGUF...", help="Run folders, GGUF files, packaged models."),
    ],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8080,
    api_key: Annotated[
        str | None,
        typer.Option(help="What requests must carry. Default: none on 127.0.0.1, else a new one."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Web pages that may ask, as http://localhost:3000, or * for all; repeatable.",
        ),
    ] = None,
    context: Annotated[int, typer.Option(min=1, help="Tokens a conversation may have.")] = 4096,
    slots: Annotated[int, typer.Option(min=1, help="Conversations answered at once.")] = 4,
    log_requests: Annotated[
        bool, typer.Option("--log-requests", help="Print a line for each request.")
    ] = False,
    uncertified: Uncertified = False,
    as_json: Json = False,
) -> None:
    """Answer OpenAI-style requests from runs and GGUF files, by llama.cpp, until stopped."""
    from strop.actions.serve import description
    from strop.cli.serve import set_on_signal, show
    from strop.serving.access import Access
    from strop.serving.server import server

    stopped = threading.Event()
    with contextlib.ExitStack() as stack:

        def work() -> dict[str, Any]:
            opened = server(
                targets,
                port=port,
                access=Access(host, api_key=api_key, origins=allow_origin or ()),
                context=context,
                slots=slots,
                uncertified=uncertified,
                log=log_requests,
            )
            stack.enter_context(opened)
            set_on_signal(stopped)
            return description(opened)

        respond(work, show, as_json=as_json)
        sys.stdout.flush()
        stopped.wait()


@app.command(cls=Command, epilog="Example: strop export runs/tone --to merged,gguf --quant q8_0")
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    to: Annotated[
        str, typer.Option(help="adapter, merged, gguf, ollama, bnb; several joined by commas.")
    ],
    quant: Annotated[
        str,
        typer.Option(
            help="Forms of gguf and ollama: formats such as q8_0,q4_k; dynamic-1.10, formats by "
            "sensitivity in 1.10 times the bytes of q4_0; adapter, the adapter alone."
        ),
    ] = "f16",
    out: Annotated[
        Path | None, typer.Option(help="The folder to write into. Default: RUN/export.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Rows to compare on. Default: those the run held out.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Of merged weights: float32, bfloat16, float16. Default: the base's."),
    ] = None,
    certify: Annotated[
        bool, typer.Option("--certify/--no-certify", help="Open each export and compare it.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Write a run for other programs, and certify that each export agrees with the trained model."""
    from strop.actions import export as action
    from strop.cli.export import show

    options = {"quant": quant, "out": out, "data": data, "dtype": dtype, "certified": certify}

    def work() -> dict[str, Any]:
        with bars(quiet=as_json) as progress:
            return action.export(run, to.split(","), progress=progress, **options)

    result = respond(work, show, as_json=as_json)
    if not result["certified"]:
        raise typer.Exit(1)


@app.command(cls=Command, epilog="Example: strop push runs/tone/export/merged me/tone")
def push(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="One export of a run.")],
    repo: Annotated[str, typer.Argument(metavar="USER/NAME", help="Where on the hub.")],
    public: Annotated[
        bool, typer.Option("--public", help="Everybody may see it, if it is made now.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Upload a certified export to the Hugging Face hub, or the one that HF_ENDPOINT names."""
    from strop.actions import push as action
    from strop.cli.export import show_upload

    respond(lambda: action.push(folder, repo, public=public), show_upload, as_json=as_json)
