"""`strop train`, `strop teach`: gather the settings of a run, and show where the run is."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from strop.cli.flags import UsageError, from_text, read_yaml
from strop.cli.options import Json
from strop.cli.output import respond
from strop.cli.settings_command import with_settings
from strop.core.system.terminal import bars
from strop.core.system.visible import visible
from strop.metrics.names import format_measure
from strop.planning.settings import described

STOPPED = 130
"""Exit code of a training that was interrupted before its last step, as in shells."""
DIVERGED = 3
"""Exit code of a training whose loss ended as no number, or clearly above what it began with."""


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
    resume: Annotated[Path | None, typer.Option(help="Continue this interrupted run.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run in --out first.")
    ] = False,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Fine-tune a model on rows of data and keep everything in a run folder.

    Exit code 3: the run diverged (the loss is no number, or the held-out loss ended clearly above
    its first value); 130: it was interrupted and can be resumed.
    """
    sources = data[0] if data and len(data) == 1 else data or None
    arguments = {"data": sources, "model": model, "out": out}
    given.update({name: value for name, value in arguments.items() if value is not None})
    work = functools.partial(run_training, given, config=config, resume=resume, overwrite=overwrite)
    result = respond(work, show, as_json=as_json)
    if not result["finished"]:
        raise typer.Exit(STOPPED)
    if result["diverged"]:
        raise typer.Exit(DIVERGED)


def settings_from(given: Mapping[str, Any], config: Path | None) -> dict[str, Any]:
    """Return the settings that a YAML file and flags name; flags win.

    Raises:
        ConfigError: the file holds no settings.
    """
    types = {name: hint for name, (hint, _, _) in described().items()}
    flags = {
        name: from_text(value, types[name]) if isinstance(value, str) else value
        for name, value in given.items()
    }
    return {**(read_yaml(config) if config else {}), **flags}


def run_training(
    given: Mapping[str, Any], *, config: Path | None, resume: Path | None, overwrite: bool
) -> dict[str, Any]:
    """Train with the settings of a file and flags.

    Raises:
        UsageError: there is nothing to train on.
        StropError: the settings, the data or the model cannot be used.
    """
    from strop.actions.train import train

    settings = settings_from(given, config)
    if not any((settings.get("data"), settings.get("environment"), resume)):
        raise UsageError("strop train needs DATA, as in: strop train rows.jsonl --out runs/tone")
    return train(settings, resume=resume, overwrite=overwrite)


def show(result: dict[str, Any]) -> None:
    """Print where the run is and what to do with it."""
    from strop.runs.run_data import learned_labels

    console = Console()
    run = result["run"]
    rows = "" if result["losses"]["held_out_last"] is not None else " test.jsonl"
    use = f"predict {run} FILE --out OUT" if learned_labels(run) else f"chat {run}"
    steps = f"strop eval {run}{rows} (rows not used in training), or strop {use}"
    if result["diverged"]:
        steps = "train again as said above"
    if not result["finished"]:
        steps = f"strop train --resume {run}"
    for name, what in (("run", run), ("report", result["report"]), ("next", steps)):
        console.print(f"{name:7} {what}", soft_wrap=True, highlight=False)


@with_settings
def teach(
    docs: Annotated[
        Path, typer.Argument(help="A file or folder of text, Markdown, HTML, PDF, DOCX, JSONL.")
    ],
    out: Annotated[
        Path, typer.Option(help="Run folder; the same command again goes on where it stopped.")
    ],
    model: Annotated[
        str | None, typer.Option(help="A packaged model, a folder, a GGUF file or a hub name.")
    ] = None,
    writer: Annotated[
        str | None,
        typer.Option(help="Model or OpenAI-style address that writes about the documents."),
    ] = None,
    writer_model: Annotated[str | None, typer.Option(help="Its name at that address.")] = None,
    questions: Annotated[
        Path | None,
        typer.Option(help='Questions in several wordings: {"questions": ["…"], "answer": "…"}.'),
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option(
            help="General text mixed in against forgetting, with its share of the tokens, as "
            "general.txt:0.1; 0: none. Default: packaged text, 0.2."
        ),
    ] = None,
    each: Annotated[int, typer.Option(help="Questions the writer tries for each chunk.")] = 4,
    wordings: Annotated[int, typer.Option(help="Further wordings of each question.")] = 3,
    paraphrases: Annotated[int, typer.Option(help="Paraphrases of each chunk.")] = 2,
    implications: Annotated[int, typer.Option(help="Sentences that follow from each.")] = 2,
    chunks: Annotated[int | None, typer.Option(help="Write about so many chunks only.")] = None,
    chunk_tokens: Annotated[int, typer.Option(help="Most tokens of a chunk.")] = 256,
    config: Annotated[
        Path | None, typer.Option(help="Settings in YAML; flags override them.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Train anew; what was written stays.")
    ] = False,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Train a model on documents so that it knows them, and measure what it learned and forgot.

    It is trained on the documents, on questions in several wordings (of a writer or a file), and
    on general text; wordings that are not trained on measure what it learned. Exit code 130: it
    was interrupted, and the same command goes on.
    """
    given.update({} if model is None else {"model": model})

    def work() -> dict[str, Any]:
        from strop.actions.documents import teach as action

        counts = {"wordings": wordings, "paraphrases": paraphrases, "implications": implications}
        return action(
            docs,
            out,
            settings_from(given, config),
            overwrite=overwrite,
            composition={"questions": each, **counts},
            writer=writer,
            writer_model=writer_model,
            questions=questions,
            replay=replay,
            chunk_tokens=chunk_tokens,
            chunks=chunks,
            shown=functools.partial(bars, quiet=as_json),
        )

    if not respond(work, _show_taught, as_json=as_json)["finished"]:
        raise typer.Exit(STOPPED)


def _show_taught(result: dict[str, Any]) -> None:
    """Print what was trained on, what was learned, and what was forgotten."""
    lines = [
        f"{result['facts']:,} facts in {result['wordings']:,} wordings, {result['held_out']:,} more "
        f"held out; {result['synthetic_tokens']:,} synthetic tokens beside "
        f"{result['document_tokens']:,} of the documents",
        *(f"dropped: {count:,} because {why}" for why, count in result["dropped"].items()),
        *result["notes"],
    ]
    if result["finished"]:
        for name in ("recall", "exact_match", "token_f1"):
            before, after = (result[name][side] for side in ("before", "after"))
            lines.append(
                f"{name:12} {format_measure(before, True)} -> {format_measure(after, True)}"
            )
        lines.append(f"perplexity of general text {100 * result['forgetting']:+.1f} %")
    if "picture" in result:
        lines.append(f"picture {result['picture']}")
    lines.append(f"run     {result['run']}")
    console = Console()
    for line in lines:
        console.print(visible(line), soft_wrap=True, highlight=False, markup=False)
