"""`strop eval`: tables of what was measured, with 95 % intervals."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from strop.cli.confusion import print_confusion
from strop.cli.flags import UsageError, bounds_of, read_yaml
from strop.cli.options import Encoding, Ignored, Instruction, Json, Names, Target, columns
from strop.cli.output import respond
from strop.core.files import check_new
from strop.core.system.terminal import bars
from strop.metrics.names import METRICS, format_measure, is_share


def evaluate(
    target: Target,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="JSONL, JSON, CSV or Parquet; without it the rows that the run held out.",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Another run, checkpoint or model on the same rows; may be repeated."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help=f"Measures, instead of those that suit the data: {', '.join(METRICS)}."),
    ] = None,
    regex: Annotated[
        str | None, typer.Option(help="Regular expression to look for in answers.")
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(help="JSON schema that answers should follow.")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            help="YAML of rules of voice: forbidden, required, max_words, language, form …"
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Function of yours, as my_file.py:score; may be repeated."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="OpenAI-compatible address of a model that compares base and tuned."),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="Name of that model. Default: the first there.")
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Most tokens of a generated answer. Default: as the data's need."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="Column of rows that belong together, as those of one document."),
    ] = None,
    forgetting: Annotated[
        bool,
        typer.Option(
            "--forgetting/--no-forgetting", help="Measure a run on general texts and questions too."
        ),
    ] = True,
    retain: Annotated[
        Path | None, typer.Option(help="Rows that the run should not forget, measured as well.")
    ] = None,
    fail_below: Annotated[
        list[str] | None, typer.Option(help="Exit code 1 below this, as accuracy=0.7; repeatable.")
    ] = None,
    fail_above: Annotated[
        list[str] | None, typer.Option(help="Exit code 1 above this, as loss=2; repeatable.")
    ] = None,
    no_worse_than: Annotated[
        str | None,
        typer.Option(help="Exit code 1 where the run is surely worse than this run or model."),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write the checks as JUnit XML.")] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Tasks of lm-evaluation-harness instead of rows, as arc_easy,my_task.yaml."
        ),
    ] = None,
    num_fewshot: Annotated[
        int | None,
        typer.Option(help="Examples before each question of --tasks. Default: as the task says."),
    ] = None,
    apply_chat_template: Annotated[
        bool,
        typer.Option("--apply-chat-template", help="Ask --tasks in the model's chat template."),
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Number of rows to use. Default: all.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the rows drawn and of the bootstrap.")] = 0,
    names: Names = None,
    ignore_columns: Ignored = None,
    instruction: Instruction = None,
    encoding: Encoding = None,
    as_json: Json = False,
) -> None:
    """Measure a run, and the model it started from, on rows it has not seen."""
    from strop.actions import evaluate as action

    read_as = columns(names, ignore_columns, instruction, encoding)
    options = {
        "metrics": metrics,
        "regex": regex,
        "schema": schema,
        "rules": None if rules is None else read_yaml(rules, "--rules"),
        "functions": metric,
        "judge": judge,
        "judge_model": judge_model,
        "max_tokens": max_tokens,
        "cluster": cluster,
        "forgetting": forgetting,
        "retain": retain,
    }

    others = [*(against or ()), *([no_worse_than] if no_worse_than else [])]
    gate: dict[str, Any] = {
        "below": bounds_of(fail_below or (), "--fail-below"),
        "above": bounds_of(fail_above or (), "--fail-above"),
        "no_worse_than": no_worse_than,
    }

    if junit is not None:
        check_new(junit, overwrite=True)
    compared = list(dict.fromkeys(others))
    of_tasks = {"num_fewshot": num_fewshot, "apply_chat_template": apply_chat_template}
    _check_tasks(tasks, data, options | read_as, of_tasks)

    def work() -> dict[str, Any]:
        with bars(quiet=as_json) as progress:
            if tasks is not None:
                evaluated = action.evaluate_tasks(
                    target,
                    [name.strip() for name in tasks.split(",") if name.strip()],
                    against=compared,
                    options={**of_tasks, "limit": limit},
                    seed=seed,
                    progress=progress,
                )
            else:
                evaluated = action.evaluate(
                    target,
                    data,
                    against=compared,
                    limit=limit,
                    seed=seed,
                    columns=read_as,
                    metrics=lambda: action.metrics_of(options, progress),
                )
        return action.gated(evaluated, junit=junit, **gate) if any(gate.values()) else evaluated

    evaluated = respond(work, show, as_json=as_json)
    failed = [c["sentence"] for c in evaluated.get("gate", {}).get("checks", ()) if not c["passed"]]
    if failed:
        typer.echo("strop: " + "; ".join(failed), err=True)
        raise typer.Exit(1)


def _check_tasks(
    tasks: str | None, data: Path | None, of_rows: dict[str, Any], of_tasks: dict[str, Any]
) -> None:
    """Refuse options that have no effect beside the others.

    Raises:
        UsageError: lists all of them.
    """
    if tasks is None:
        given = [name for name, value in of_tasks.items() if value not in (None, False)]
        fault = "asks tasks of lm-evaluation-harness; name them with --tasks"
    else:
        given = [name for name, value in of_rows.items() if value and name != "forgetting"]
        fault = "is of rows, and --tasks brings its own; leave one of them out"
        if data is not None:
            raise UsageError(f"{data} and --tasks are given; measure on rows or on tasks")
    if given:
        names = ", ".join(f"--{_FLAGS.get(name, name).replace('_', '-')}" for name in given)
        raise UsageError(f"{names} {fault}")


_FLAGS = {"functions": "metric"}
"""Flags whose options have other names."""


def show(result: dict[str, Any]) -> None:
    """Print each measure with its interval, differences first, and the answers for each label."""
    console = Console()
    models = ("base", "tuned", "model")
    columns: dict[str, Any] = {name: result[name] for name in models if name in result}
    last = list(columns.values())[-1]
    title = f"{last['rows']:,} rows of {result['data']}, 95 % intervals"
    if "difference" in result:
        columns = {"tuned - base": result["difference"], **columns}
    console.print(_measures(title, columns))
    for other in result.get("against", ()):
        shown = {
            f"tuned - {other['name']}": other["difference"],
            other["name"]: other["model"],
            "tuned": result["tuned"],
        }
        console.print(_measures(f"beside {other['name']}", shown))
    for name, compared in result.get("forgetting", {}).items():
        shown = {"tuned - base": compared["difference"]}
        shown |= {model: compared[model] for model in ("base", "tuned")}
        console.print(_measures(FORGETTING[name], shown))
    for check in result.get("gate", {}).get("checks", ()):
        if check["passed"]:
            console.print(f"passed: {check['sentence']}", soft_wrap=True, highlight=False)
    for sentence in _sentences(result):
        console.print(sentence, soft_wrap=True, highlight=False)
    if note := last.get("note"):
        console.print(note, soft_wrap=True, highlight=False)
    if "confusion" in last:
        print_confusion(console, last, list(columns)[-1])


FORGETTING = {
    "text": "what was forgotten: general texts",
    "questions": "what was forgotten: questions on facts, instructions, arithmetic",
    "retain": "what was forgotten: the rows to retain",
}


def _measures(title: str, columns: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=title)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    names = dict.fromkeys(n for of in columns.values() for n in of if _is_measure(of[n]))
    for name in names:
        share = is_share(name, columns.values())
        measures = (of_one.get(name) for of_one in columns.values())
        cells = [format_measure(of_one, share) if of_one else "" for of_one in measures]
        table.add_row(name if "." in name else name.replace("_", " "), *cells)
    return table


def _is_measure(value: Any) -> bool:
    return isinstance(value, dict) and "low" in value


def _sentences(result: dict[str, Any]) -> list[str]:
    """Return what each difference says: how likely between equals, how many rows would show it."""
    pairs = [("base", result.get("difference", {}))]
    pairs += [(other["name"], other["difference"]) for other in result.get("against", ())]
    sentences = []
    for other, difference in pairs:
        name = "accuracy" if "accuracy" in difference else "loss"
        if (change := difference.get(name)) is None or change["p"] is None:
            continue
        p, corrected = change["p"], change["p_adjusted"] is not None
        p = change["p_adjusted"] if corrected else p
        sentence = f"{name}, tuned beside {other}: p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
        sentence += ", corrected for the number of models" * corrected
        if (needed := change["rows_needed"]) is not None:
            sentence += f"; about {needed:,} rows show a difference of this size"
        sentences.append(sentence)
    if judge := result.get("judge"):
        sentences.append(
            f"the judge prefers the tuned answer in {judge['wins']}, the base one in "
            f"{judge['losses']}, neither in {judge['ties']}: "
            + format_measure(judge["win_rate"], share=True)
        )
    return sentences
