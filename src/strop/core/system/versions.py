"""Versions of Python, packages and strop itself; the only place that reads any."""

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

PACKAGES = ("strop", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy")


def installed() -> dict[str, str]:
    """Return the version of each package a result depends on; absent ones are left out."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def processor() -> str:
    """Return the name of the processor and of what it can do: the same text, the same last bits."""
    table = Path("/proc/cpuinfo")
    if not table.exists():
        return platform.processor()
    lines = table.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    names = ("model", "cpu family", "vendor_id", "flags", "Features", "CPU part")
    return "\n".join(line for line in lines if line.startswith(names))


@functools.cache
def commit() -> str | None:
    """Return the commit strop runs from, with `-dirty` where files differ, or None if unknown."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:  # git is not installed
        return None
    return done.stdout.strip() or None
