"""`strop index` and `strop search`: documents and what they say about a question."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from strop.cli.options import Json
from strop.cli.output import respond
from strop.core.system.terminal import bars
from strop.core.system.visible import visible

IndexFolder = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of strop index.")]


def index(
    docs: Annotated[
        Path, typer.Argument(help="A file or folder of text, Markdown, HTML, PDF, DOCX, JSONL.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the index; brought up to date if there.")],
    chunk_tokens: Annotated[
        int, typer.Option(help="Most tokens of a chunk, of 4 bytes each.")
    ] = 256,
    embedder: Annotated[
        str,
        typer.Option(
            help="Embedding model: a packaged one, a sentence-transformers or model2vec folder, a "
            "language model, none, or auto for what is installed; static: before it is faster."
        ),
    ] = "auto",
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Index everything anew.")] = False,
    as_json: Json = False,
) -> None:
    """Index documents for search by words and by meaning; only what changed is read again."""
    from strop.actions.documents import index as action

    def work() -> dict[str, Any]:
        with bars(quiet=as_json) as progress:
            return action(
                docs,
                out,
                chunk_tokens=chunk_tokens,
                embedder=embedder,
                rebuild=rebuild,
                progress=progress,
            )

    respond(work, _show_index, as_json=as_json)


def search(
    folder: IndexFolder,
    question: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("--k", help="Most hits.")] = 5,
    words: Annotated[bool, typer.Option("--words", help="Search by words alone.")] = False,
    as_json: Json = False,
) -> None:
    """Show the chunks of an index that fit a question best."""
    from strop.actions.documents import search as action

    respond(lambda: action(folder, question, k=k, dense=not words), _show_hits, as_json=as_json)


def _show_index(result: dict[str, Any]) -> None:
    """Print what was indexed, and what was left out."""
    by = f"words and {result['embedder']}" if result["embedder"] else "words alone"
    before = f", {result['unchanged']:,} of them unchanged" if result["unchanged"] else ""
    gone = f", {result['removed']:,} removed" if result["removed"] else ""
    skipped = [f"left out: {reason}" for reason in result["skipped"].values()]
    _print(
        [
            f"{result['documents']:,} documents{before}{gone}: {result['chunks']:,} chunks",
            f"searched by {by}, written to {result['out']}",
            *skipped,
            *result["notes"],
        ]
    )


def _show_hits(result: dict[str, Any]) -> None:
    """Print each hit: its source, its score, its text."""
    if not result["hits"]:
        _print(["nothing fits"])
    for number, hit in enumerate(result["hits"], 1):
        title = f"  {hit['title']}" if hit["title"] else ""
        _print([f"{number}. {hit['source']}  {hit['score']:.2f}{title}", hit["text"], ""])
    _print(result["notes"])


def _print(lines: list[str]) -> None:
    console = Console()
    for line in lines:
        console.print(visible(line), soft_wrap=True, highlight=False, markup=False)
