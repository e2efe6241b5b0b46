"""Commands, their options and their help; each loads what it needs when it runs."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

import strop
from strop.cli.commands.chat import chat
from strop.cli.commands.data import data as data_commands
from strop.cli.commands.doctor import diagnose, doctor
from strop.cli.commands.documents import answer, compare, index, raft, search
from strop.cli.commands.evaluate import evaluate
from strop.cli.commands.export import export, push
from strop.cli.commands.models import merge, models, quantize
from strop.cli.commands.plan import import_config, plan
from strop.cli.commands.predict import predict
from strop.cli.commands.report import report
from strop.cli.commands.serve import serve
from strop.cli.commands.sweep import sweep
from strop.cli.commands.train import DIVERGED, teach, train
from strop.cli.flags import UsageError
from strop.cli.options import Json
from strop.cli.output import fail, replace_unknown_characters, respond
from strop.cli.settings_command import Command
from strop.core.errors import DivergedError, StropError, hints_as_flags
from strop.core.quiet import quiet
from strop.core.system.memory import check_limits, ran_out_of_memory
from strop.core.system.output import ReaderGoneError, lasting_output

app = typer.Typer(
    name="strop",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Fine-tune open language models on the hardware people have.",
    epilog="Example: strop train rows.jsonl --out runs/tone, then strop eval runs/tone test.jsonl",
)

app.add_typer(data_commands)


def run() -> None:
    """Run the command line; errors end as one message and an exit code.

    2 is wrong usage, 3 a training that diverged, 130 one that was interrupted, 141 a pipe that has
    no reader any more, 1 anything else.
    """
    replace_unknown_characters()
    as_json = "--json" in sys.argv
    try:
        check_limits()
        with quiet(), hints_as_flags(), lasting_output(results=True):
            app()
    except SystemExit as e:
        if as_json and e.code == 2:
            fail("the command line cannot be used; standard error says why", as_json=True)
        raise
    except ReaderGoneError:  # as the signal of the pipe ends other programs
        sys.exit(128 + 13)
    except UsageError as e:
        fail(str(e), as_json=as_json)
        sys.exit(2)
    except DivergedError as e:
        fail(str(e), as_json=as_json, diverged=str(e))
        sys.exit(DIVERGED)
    except StropError as e:
        fail(str(e), as_json=as_json)
        sys.exit(1)
    except (MemoryError, RuntimeError, OSError, ImportError) as e:
        if not ran_out_of_memory(e):
            raise
        fail(
            f"memory ran out ({str(e) or 'MemoryError'}); end other programs, raise the limit of "
            "this process (ulimit -v, the container's), or ask for less",
            as_json=as_json,
        )
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


COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "doctor": (doctor, "strop doctor"),
    "diagnose": (diagnose, "strop diagnose runs/tone"),
    "models": (models, "strop models models/ --json"),
    "plan": (plan, "strop plan rows.jsonl --memory 4GB --time 20m"),
    "import-config": (import_config, "strop import-config axolotl.yml --out settings.yaml"),
    "train": (train, "strop train rows.jsonl --out runs/tone --epochs 2"),
    "sweep": (
        sweep,
        "strop sweep rows.jsonl --over learning_rate=1e-4..1e-3 rank=8,16,32 --budget 1h",
    ),
    "eval": (evaluate, "strop eval runs/tone held_out.jsonl --limit 300"),
    "report": (report, "strop report runs/tone runs/style --out compared.html"),
    "predict": (predict, "strop predict runs/tone new_rows.csv --out answered.csv"),
    "quantize": (
        quantize,
        "strop quantize smollm2-135m-instruct --budget 1.10 --out models/smollm2-4bit",
    ),
    "chat": (chat, 'strop chat runs/tone --say "Shares rose sharply."'),
    "serve": (serve, "strop serve runs/tone runs/style --port 8080"),
    "export": (export, "strop export runs/tone --to merged,gguf --quant q8_0"),
    "merge": (merge, "strop merge runs/tone runs/style --weights 0.5,0.5 --out runs/both"),
    "index": (index, "strop index handbook/ --out handbook.index"),
    "search": (search, 'strop search handbook.index "How long is the notice period?" --k 3'),
    "ask": (answer, 'strop ask runs/tone --index handbook.index "How long is the notice period?"'),
    "raft": (raft, "strop raft questions.jsonl --index handbook.index --out rows.jsonl"),
    "teach": (
        teach,
        "strop teach handbook/ --model smollm2-135m-instruct --questions facts.jsonl --out runs/book",
    ),
    "compare": (
        compare,
        "strop compare runs/tone questions.jsonl --index handbook.index --raft runs/raft",
    ),
    "push": (push, "strop push runs/tone/export/merged me/tone"),
}
"""Each command by its name: the function, and an example for its help."""

for name, (command, example) in COMMANDS.items():
    app.command(name, cls=Command, epilog=f"Example: {example}")(command)
