"""`strop doctor`: what this machine has, how fast it is, and which models are at hand."""

import os
import platform
import shutil
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from strop.core import env, versions
from strop.core.disk import free_bytes
from strop.core.errors import MissingPackageError


def examine() -> dict[str, Any]:
    """Return everything as plain data; the speeds are measured now."""
    import torch

    from strop.models.dtype import compute_dtype, default_device, gflops

    cache = env.cache_folder()
    memory = psutil.virtual_memory()
    return {
        "versions": versions.installed(),
        "system": f"{platform.system()} {platform.release()} on {platform.machine()}",
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": {"total": memory.total, "available": memory.available},
        "disk": {"path": str(cache), "free": free_bytes(cache)},
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "device": str(default_device()),
        "gflops": gflops(),
        "compute_dtype": str(compute_dtype()).removeprefix("torch."),
        "compiler": shutil.which("g++") or shutil.which("c++") or shutil.which("clang++"),
        "models": _models(),
    }


def show(found: dict[str, Any]) -> None:
    """Print the facts, and for each absent model the command that brings it."""
    console = Console()
    table = Table(show_header=False, box=None)
    memory, disk = found["memory"], found["disk"]
    speeds = ", ".join(f"{name} {speed:,.0f} GFLOP/s" for name, speed in found["gflops"].items())
    versions_found = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    rows = {
        "versions": versions_found,
        "system": found["system"],
        "cores": f"{found['cores']}, torch uses {found['threads']} threads",
        "memory": f"{_gb(memory['total'])}, {_gb(memory['available'])} free",
        "disk": f"{_gb(disk['free'])} free where {disk['path']} is kept",
        "GPU": ", ".join(found["gpus"]) or "none; everything runs on the CPU",
        "speed": f"{speeds} on {found['device']}; models compute in {found['compute_dtype']}",
        "compiler": found["compiler"] or "none; strop works without, a little slower",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for model in found["models"]:
        state = "here" if model["present"] else f"absent; {model['command']}"
        table.add_row("model", f"{model['name']}: {state}")
    console.print(table, highlight=False)


def _models() -> list[dict[str, Any]]:
    from strop.models.packaged import PACKAGED, find_parts

    def present(name: str) -> bool:
        try:
            return bool(find_parts(name, PACKAGED[name]))
        except MissingPackageError:
            return False

    return [
        {"name": name, "present": present(name), "command": row.command}
        for name, row in PACKAGED.items()
    ]


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
