"""`strop eval`: measures a run beside its base model, or one model, and shows the tables."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from strop.data.reading.columns import Columns


def measure(
    which: str, data: Path, *, limit: int | None, seed: int, columns: Columns
) -> dict[str, Any]:
    """Return plain results: `base` and `tuned` for a run, `model` for anything else.

    Args:
        which: a run or a model.
        data: a file of rows.
        limit: the most rows to take.
        seed: of the rows drawn.
        columns: how columns of the file are read, where not as those of the run's own data.

    Raises:
        StropError: the run, the model or the data cannot be used.
    """
    from strop.evaluation import compare, evaluate
    from strop.training import Run

    if not (Path(which) / "run.json").is_file():
        found = evaluate(which, data, limit=limit, seed=seed, columns=columns)
        return {"data": str(data), "model": found.plain()}
    run = Run.open(which)
    base, tuned = compare(run, data, limit=limit, seed=seed, columns=columns)
    return {
        "data": str(data),
        "run": str(run.path),
        "base": base.plain(),
        "tuned": tuned.plain(),
    }


def show(result: dict[str, Any]) -> None:
    """Print each measure with its interval, and what was answered for each label."""
    console = Console()
    columns = [name for name in ("base", "tuned", "model") if name in result]
    table = Table(title=f"{result[columns[0]]['rows']} rows of {result['data']}, 95 % intervals")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    table.add_row("loss", *(_estimate(result[name]["loss"]) for name in columns))
    table.add_row("perplexity", *(_estimate(result[name]["perplexity"]) for name in columns))
    if result[columns[0]]["accuracy"]:
        table.add_row("accuracy", *(_share(result[name]["accuracy"]) for name in columns))
    console.print(table)
    if note := result[columns[-1]]["note"]:
        console.print(note, soft_wrap=True, highlight=False)
    if (confusion := result[columns[-1]]["confusion"]) is not None:
        console.print(_confusion(confusion, columns[-1]))


def _estimate(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['value']:.3f}  ({low:.3f} to {high:.3f})"


def _share(found: dict[str, Any]) -> str:
    value, low, high = (100 * x for x in (found["value"], *found["interval"]))
    return f"{value:.1f} %  ({low:.1f} to {high:.1f})"


def _confusion(confusion: dict[str, dict[str, int]], name: str) -> Table:
    table = Table(title=f"answers of the {name} model: a row for each right label")
    table.add_column("right \\ answered")
    for label in confusion:
        table.add_column(label, justify="right")
    table.add_column("right", justify="right")
    for right, chosen in confusion.items():
        share = 100 * chosen[right] / max(1, sum(chosen.values()))
        table.add_row(right, *map(str, chosen.values()), f"{share:.1f} %")
    return table
