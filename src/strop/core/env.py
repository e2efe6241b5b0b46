"""Every environment variable strop reads, and nothing else."""

import os
from pathlib import Path

FORCED_IMPL = os.environ.get("STROP_IMPL")  # noqa: TID251
"""Run this implementation of every operation, or raise where it cannot run."""

NATIVE = os.environ.get("STROP_NATIVE") != "0"  # noqa: TID251
"""Whether C++ is compiled and used where it is faster; `STROP_NATIVE=0` says no."""

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # noqa: TID251
"""Triton's own switch: its kernels run on CPU tensors, slowly, to be tested."""

CXX = os.environ.get("CXX") or "g++"  # noqa: TID251
"""The C++ compiler."""


def cache_folder() -> Path:
    """Return where converted models and fetched data are kept.

    `STROP_CACHE` if it is set, else `$XDG_CACHE_HOME/strop`, else `~/.cache/strop`.
    """
    if own := os.environ.get("STROP_CACHE"):  # noqa: TID251
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")  # noqa: TID251
    return (Path(base) if base else Path.home() / ".cache") / "strop"
