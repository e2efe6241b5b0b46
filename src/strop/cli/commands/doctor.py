"""`strop doctor`: a table of what this machine has, how fast it is, and which models are here."""

from typing import Any

from rich.console import Console
from rich.table import Table

from strop.cli.options import Json
from strop.cli.output import respond


def doctor(as_json: Json = False) -> None:
    """Show what this machine has, how fast it is, and which packaged models are installed."""
    from strop.actions.doctor import examine

    respond(examine, show, as_json=as_json)


def show(machine: dict[str, Any]) -> None:
    """Print the properties, and for each absent model the command that installs it."""
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
        "GPU": ", ".join(machine["gpus"]) or "none; everything runs on the CPU",
        "speed": f"{speeds} on {machine['device']}; models compute in {machine['compute_dtype']}",
        "compiler": machine["compiler"] or "none; strop works without, a little slower",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for model in machine["models"]:
        state = "installed" if model["present"] else f"absent; {model['command']}"
        table.add_row("model", f"{model['name']}: {state}")
    console.print(table, highlight=False)


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
