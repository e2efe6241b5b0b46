"""`strop serve`: answers requests until it is stopped."""

import contextlib
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from strop.cli.options import Json, Uncertified
from strop.cli.output import respond
from strop.core.system.terminal import bars


def serve(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="RUN|GGUF...", help="Run folders, GGUF files, packaged models."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8080,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="Key that clients must send. Default: none on 127.0.0.1, else a new one."
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Web pages that may send requests, as http://localhost:3000, or * for all; repeatable.",
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(help="Folder of strop index: chats show documents and answers cite them."),
    ] = None,
    context: Annotated[int, typer.Option(min=1, help="Most tokens of a conversation.")] = 4096,
    slots: Annotated[int, typer.Option(min=1, help="Conversations answered at once.")] = 4,
    log_requests: Annotated[
        bool, typer.Option("--log-requests", help="Print a line for each request.")
    ] = False,
    uncertified: Uncertified = False,
    as_json: Json = False,
) -> None:
    """Answer OpenAI-style requests from runs and GGUF files, by llama.cpp, until stopped."""
    from strop.actions.serve import check_targets, description, documents_of

    check_targets(targets)
    from strop.serving.access import Access
    from strop.serving.server import server

    stopped = threading.Event()
    with contextlib.ExitStack() as stack:

        def work() -> dict[str, Any]:
            with bars(quiet=as_json) as progress:
                progress("opening the models, each exported first where no export is there", 0, 0)
                opened = server(
                    targets,
                    port=port,
                    access=Access(host, api_key=api_key, origins=allow_origin or ()),
                    documents=documents_of(index),
                    context=context,
                    slots=slots,
                    uncertified=uncertified,
                    log=log_requests,
                )
            stack.enter_context(opened)
            _set_on_signal(stopped)
            return description(opened)

        respond(work, _show, as_json=as_json)
        sys.stdout.flush()
        stopped.wait()


def _set_on_signal(stopped: threading.Event) -> None:
    """Set an event on Ctrl-C and SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())


def _show(result: dict[str, Any]) -> None:
    """Print where requests go, and what they must carry."""
    key = result["api_key"]
    print(f"models  {', '.join(result['models'])}")
    print(f"address {result['address']}")
    print(f"key     {key}" if key else "key     none is needed on this machine's address")
    print("stop    Ctrl-C", flush=True)
