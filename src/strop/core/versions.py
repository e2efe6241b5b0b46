"""Which versions of what are at hand; every question about a version is answered here."""

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

PACKAGES = ("strop", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy")


def installed() -> dict[str, str]:
    """Return the version of each package a result depends on; absent ones are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


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
