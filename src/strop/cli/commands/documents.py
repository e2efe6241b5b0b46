"""`strop index`, `strop search`, `strop ask`: documents and what they say about a question."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from strop.cli.options import Json, Target, Uncertified
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


def answer(
    target: Target,
    question: Annotated[str, typer.Argument(help="What to answer.")],
    folder: Annotated[Path, typer.Option("--index", metavar="INDEX", help="Of strop index.")],
    k: Annotated[int, typer.Option("--k", help="Most documents that the model is shown.")] = 4,
    threshold: Annotated[
        float,
        typer.Option(help="Show documents if the best answers with this probability at least."),
    ] = 0.5,
    timeout: Annotated[
        float, typer.Option(help="Seconds for the search; then the model answers alone.")
    ] = 10.0,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 256,
    uncertified: Uncertified = False,
    as_json: Json = False,
) -> None:
    """Answer from documents with citations, or from the model alone where they do not answer."""
    from strop.actions.documents import answer_from_documents as action

    def work() -> dict[str, Any]:
        return action(
            target,
            folder,
            question,
            k=k,
            threshold=threshold,
            timeout=timeout,
            max_tokens=max_tokens,
            uncertified=uncertified,
        )

    respond(work, _show_answer, as_json=as_json)


def raft(
    source: Annotated[
        Path, typer.Argument(metavar="DATA|DOCS", help="Questions with answers; or the documents.")
    ],
    folder: Annotated[Path, typer.Option("--index", metavar="INDEX", help="Of strop index.")],
    out: Annotated[Path, typer.Option(help="File to write: .jsonl.")],
    distractors: Annotated[int, typer.Option(help="Documents beside the right one.")] = 3,
    without: Annotated[
        float, typer.Option(help="Share of rows whose documents do not have the answer.")
    ] = 0.15,
    none: Annotated[float, typer.Option(help="Share of rows without documents.")] = 0.15,
    absent: Annotated[
        str,
        typer.Option(help="Answer where the documents do not have it: refuse, or from memory."),
    ] = "refuse",
    writer: Annotated[
        str | None,
        typer.Option(help="Model or OpenAI-style address that writes questions about DOCS."),
    ] = None,
    writer_model: Annotated[str | None, typer.Option(help="Its name at that address.")] = None,
    each: Annotated[int, typer.Option(help="Questions it tries for each chunk.")] = 4,
    chunks: Annotated[int | None, typer.Option(help="Write about so many chunks only.")] = None,
    seed: Annotated[int, typer.Option(help="Of shares, order and places.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    as_json: Json = False,
) -> None:
    """Write training rows in which the right document is hidden among those found beside it."""
    from strop.actions.documents import raft as action

    def work() -> dict[str, Any]:
        with bars(quiet=as_json) as progress:
            return action(
                source,
                folder,
                out,
                writer=writer,
                writer_model=writer_model,
                overwrite=overwrite,
                each=each,
                chunks=chunks,
                distractors=distractors,
                without=without,
                none=none,
                absent=absent,
                seed=seed,
                progress=progress,
            )

    respond(work, _show_rows, as_json=as_json)


def compare(
    run: Target,
    source: Annotated[Path, typer.Argument(metavar="DATA", help="Questions with answers.")],
    folder: Annotated[Path, typer.Option("--index", metavar="INDEX", help="Of strop index.")],
    raft_run: Annotated[
        str | None,
        typer.Option("--raft", metavar="RUN", help="A run trained on strop raft's rows."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Draw so many questions.")] = None,
    k: Annotated[int, typer.Option("--k", help="Most documents that are shown.")] = 4,
    threshold: Annotated[
        float, typer.Option(help="Least probability that the best document answers.")
    ] = 0.5,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 96,
    seed: Annotated[int, typer.Option(help="Of questions, irrelevant passages, intervals.")] = 0,
    picture: Annotated[
        Path | None, typer.Option(help="SVG file to write: right answers of each arm.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure base and tuned with retrieval that works, misleads or is down, and without."""
    from strop.actions.documents import compare as action

    def work() -> dict[str, Any]:
        with bars(quiet=as_json) as progress:
            return action(
                run,
                folder,
                source,
                raft=raft_run,
                picture=picture,
                limit=limit,
                k=k,
                threshold=threshold,
                max_new_tokens=max_tokens,
                seed=seed,
                progress=progress,
            )

    respond(work, _show_comparison, as_json=as_json)


def _show_comparison(result: dict[str, Any]) -> None:
    """Print a table of the arms, and the differences with their intervals."""
    from rich.table import Table

    measures = ("exact_match", "contains", "token_f1", "refused", "cited", "hallucinated")
    table = Table("", *measures, title=f"{result['rows']:,} questions")
    for arm, values in result["arms"].items():
        table.add_row(arm, *(_percent(values.get(measure)) for measure in measures))
    Console().print(table)
    differences = [
        f"{pair}: " + ", ".join(f"{m} {_percent(values[m], sign='+')}" for m in measures[:3])
        for pair, values in result["differences"].items()
    ]
    shown = result["retrieval"]
    _print(
        [
            f"documents are shown for {shown['shown']:.0%} of the questions and have the answer for "
            f"{shown['answer_shown']:.0%}",
            *differences,
            *result["notes"],
        ]
    )


def _percent(estimate: dict[str, Any] | None, sign: str = "") -> str:
    if estimate is None:
        return ""
    value, low, high = (
        "" if estimate[name] is None else f"{100 * estimate[name]:{sign}.0f}"
        for name in ("value", "low", "high")
    )
    return f"{value} ({low} to {high})" if low else value


def _show_rows(result: dict[str, Any]) -> None:
    """Print how many rows of each kind were written, and what was dropped."""
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in result["kinds"].items())
    dropped = [f"dropped: {count:,} because {why}" for why, count in result["dropped"].items()]
    _print(
        [
            f"{result['rows']:,} rows ({kinds}), {result['quoting']:,} quote their document",
            f"written to {result['out']}",
            *dropped,
            *result["notes"],
        ]
    )


def _show_answer(result: dict[str, Any]) -> None:
    """Print the answer, what it quotes, and what it was answered from."""
    lines = [result["answer"], ""]
    for quote in result["quotes"]:
        doubt = "" if quote["verbatim"] else "  (not in that document)"
        lines.append(f"[{quote['number']}] “{quote['text']}”{doubt}")
    cited = {citation["number"] for citation in result["citations"]}
    for document in result["documents"]:
        mark = "cited" if document["number"] in cited else "shown"
        lines.append(f"[{document['number']}] {document['source']}  {mark}")
    if result["answered_from"] == "model":
        retrieval = result["retrieval"]
        lines.append(f"answered by the model alone: {retrieval['status']}, {retrieval['reason']}")
    _print(lines)


def _show_index(result: dict[str, Any]) -> None:
    """Print what was indexed, and what was left out."""
    of = f" ({result['language'].capitalize()}, by their stems)" if result["language"] else ""
    by = f"words{of} and {result['embedder']}" if result["embedder"] else f"words{of} alone"
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
