"""`strop doctor` and `strop diagnose`: what this machine has, and what is wrong with a training."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from strop.cli.options import Json
from strop.cli.output import respond


def doctor(as_json: Json = False) -> None:
    """Show what this machine has, how fast it is, what is installed, and which models fit."""
    from strop.actions.doctor import examine

    respond(examine, show, as_json=as_json)


def diagnose(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A run folder, or the output_dir of a plain TRL trainer."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Name what is wrong with a training, each fault with its evidence, cause and cure.

    It reads log.jsonl of a run, or trainer_state.json of a trainer that saved a checkpoint.
    """
    from strop.actions import doctor as action

    respond(lambda: action.diagnose(run), _show_findings, as_json=as_json)


def _show_findings(result: dict[str, Any]) -> None:
    """Print each fault as a paragraph."""
    planned = f" of {result['planned_steps']:,}" if result["planned_steps"] else ""
    seen = f"{result['run']}, {result['steps']:,}{planned} steps"
    if not result["findings"]:
        print(f"{seen}: nothing is wrong by what was logged")
        return
    print(f"{seen}:")
    for finding in result["findings"]:
        print(f"\n{finding['kind'].replace('_', ' ')} (step {finding['step']:,})")
        for part, text in (("seen", "evidence"), ("cause", "cause"), ("cure", "cure")):
            print(f"  {part:5}  {finding[text]}")


def show(machine: dict[str, Any]) -> None:
    """Print the properties, and for each absent extra or model the command that installs it."""
    console = Console()
    table = Table(show_header=False, box=None)
    memory, disk = machine["memory"], machine["disk"]
    speeds = ", ".join(f"{name} {speed:,.0f} GFLOP/s" for name, speed in machine["gflops"].items())
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rows = {
        "versions": versions,
        "system": machine["system"],
        "cores": f"{machine['cores']}, torch uses {machine['threads']} threads",
        "memory": f"{_gb(memory['total'])}, {_gb(memory['available'])} free",
        "disk": f"{_gb(disk['free'])} free at {disk['path']}",
        "GPU": "; ".join(map(_card, machine["cards"])) or "none; everything runs on the CPU",
        "speed": f"{speeds} on {machine['device']}; a step of each model decides which it takes",
        "compiler": machine["compiler"] or _without_compiler(machine),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    places = [
        ("this machine", machine["fits"]),
        *((c["name"], c["fits"]) for c in machine["cards"]),
    ]
    for place, models in places:
        for bits, kind in ((4, "QLoRA, 4 bits"), (16, "LoRA, 16 bits")):
            table.add_row("trains", f"{kind}, on {place}: {_fitting(models, bits)}")
    for what in ("extra", "model"):
        for part in machine[f"{what}s"]:
            state = "installed" if part["present"] else f"absent; {part['command']}"
            table.add_row(what, f"{part['name']}: {state}")
    console.print(table, highlight=False, markup=False)


def _without_compiler(machine: dict[str, Any]) -> str:
    if level := machine["compiled_code"]:
        return f"none; the wheel's code for {level} is used"
    measured = machine["without_compiled_code"]
    times = ", ".join(f"{work} {times:g} times" for work, times in measured["times"].items())
    return (
        "none: install g++, or a wheel with compiled code; without either the same work takes longer, "
        f"on {measured['cpu']} {times}"
    )


def _card(card: dict[str, Any]) -> str:
    memory = card["memory"]
    free = f"{_gb(memory['total'])}, {_gb(memory['available'])} free"
    return f"{card['name']}, compute capability {card['capability']}, {free}"


def _fitting(models: list[dict[str, Any]], bits: int) -> str:
    """Return the models that fit, and the first that does not, each with the memory it needs."""
    sized = [(f"{m['name']} ({_gb(m['bytes'][bits])})", bits in m["fits"]) for m in models]
    fit = ", ".join(text for text, fits in sized if fits)
    beyond = next((text for text, fits in sized if not fits), None)
    return (fit or "none of those known") + (f"; not {beyond}" if beyond else "")


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
