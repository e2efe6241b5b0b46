"""`strop sweep`: tries settings, and shows which run was the best."""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from strop.cli.commands.train import STOPPED, settings_from
from strop.cli.flags import UsageError, from_text
from strop.cli.options import Json
from strop.cli.output import respond
from strop.cli.settings_command import with_settings
from strop.core.progress import duration
from strop.core.units import time_in_seconds
from strop.planning.settings import described

_OVER = re.compile(r"([a-z_-]+)=(.+)")


@with_settings
def sweep(
    data: Annotated[
        list[str] | None,
        typer.Argument(metavar="DATA...", help="As strop train takes it; none with --resume."),
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<setting=values>...",
            help="What is tried: learning_rate=1e-4..1e-3 (a range), rank=8,16,32 (values).",
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time of all trials together, as 45m or 2h.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Most trials.", min=1)] = None,
    model: Annotated[
        str | None, typer.Option(help="A packaged model, a folder, a GGUF file or a hub name.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder for all trials. Default: sweeps/sweep-N.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings in YAML; flags override them.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this sweep.")] = None,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Try settings on one data set, each as an ordinary run, and say which does best.

    Trials are compared by the loss on the same held-out rows, or by --metric-for-best-model; poor
    ones are cut short. Needs the extra sweep, which is optuna. Exit code 130: it was interrupted.
    """
    words = [*(over or ()), *(word for word in data or () if _is_range(word))]
    sources = [word for word in data or () if not _is_range(word)]
    if sources:
        given["data"] = sources[0] if len(sources) == 1 else sources
    if model is not None:
        given["model"] = model
    if "data" not in given and resume is None:
        raise UsageError("strop sweep needs DATA, as in: strop sweep rows.jsonl --over rank=8,16")
    spaces = _spaces(words)
    seconds = None if budget is None else _seconds(budget)

    def work() -> dict[str, Any]:
        from strop.actions.train import sweep as action

        settings = settings_from(given, config)
        announce = functools.partial(_announce, Console(stderr=True))
        return action(
            settings,
            spaces,
            folder=out,
            resume=resume,
            budget=seconds,
            most=trials,
            announce=announce,
        )

    result = respond(work, _show, as_json=as_json)
    if not result["finished"]:
        raise typer.Exit(STOPPED)


def _is_range(word: str) -> bool:
    """Return True for a word such as rank=8,16, where --over has several; not for a file."""
    match = _OVER.fullmatch(word)
    known = match is not None and match[1].replace("-", "_") in described()
    return known or (match is not None and not Path(word).exists())


def _spaces(words: Sequence[str]) -> dict[str, Any]:
    """Return for each setting its values, or the ends of its range.

    Raises:
        UsageError: lists every word that is no setting with values, and settings given twice.
    """
    spaces: dict[str, Any] = {}
    faults: list[str] = []
    for word in words:
        match = _OVER.fullmatch(word)
        name = match[1].replace("-", "_") if match else ""
        if match is None:
            faults.append(f"--over is {word!r}; write learning_rate=1e-4..1e-3 or rank=8,16,32")
        elif name in spaces:
            faults.append(f"--over has {name} twice; give it once, with all its values")
        else:
            hint = described().get(name, (str,))[0]
            ends = match[2].split("..")
            if len(ends) == 2:
                low, high = (from_text(end, hint) for end in ends)
                if isinstance(low, str) or isinstance(high, str):
                    faults.append(f"--over has {word!r}, whose range does not lie between numbers")
                spaces[name] = {"low": low, "high": high}
            else:
                spaces[name] = [from_text(text, hint) for text in match[2].split(",")]
    if faults:
        raise UsageError("\n  ".join(["the command line cannot be used:", *faults]))
    return spaces


def _seconds(text: str) -> float:
    """Return the seconds of a time such as 45m.

    Raises:
        UsageError: it is none.
    """
    seconds = time_in_seconds(text)
    if not seconds:
        raise UsageError(f"--budget is {text!r}; write a time as 90s, 45m, 2h or 1h30m")
    return seconds


def _announce(console: Console, trial: Mapping[str, Any]) -> None:
    """Print how a trial ended."""
    value = "" if trial["value"] is None else f"  {trial['value']:.4f}"
    console.print(
        f"trial {trial['number']}  {_words(trial['settings'])}  {trial['state']}{value}  "
        f"{duration(trial['seconds'])}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def _words(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _show(result: dict[str, Any]) -> None:
    """Print the trials, the best first, where the page is, and the command of the best."""
    console = Console()
    names = list(dict.fromkeys(name for t in result["trials"] for name in t["settings"]))
    table = Table(*("trial", *names, result["metric"].replace("_", " "), "state", "time"), box=None)
    best = result["best"]
    for trial in result["trials"]:
        value = "" if trial["value"] is None else f"{trial['value']:.4f}"
        mark = " *" if best is not None and trial["number"] == best["number"] else ""
        table.add_row(
            f"{trial['number']}{mark}",
            *(str(trial["settings"].get(name, "")) for name in names),
            value,
            trial["state"],
            duration(trial["seconds"]),
        )
    console.print(table, highlight=False, markup=False)
    if best is None:
        print("no trial finished; a longer --budget or fewer --epochs let one")
    else:
        print(f"\nthe best is {best['run']}; the same again:\n\n{result['command']}\n")
    print(result["page"])
