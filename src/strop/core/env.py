"""Every environment variable strop reads, and nothing else."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from strop.core.errors import ConfigError

FORCED_IMPL = os.environ.get("STROP_IMPL")  # noqa: TID251
"""Run this implementation of every operation, or raise where it cannot run."""

NATIVE = os.environ.get("STROP_NATIVE") != "0"  # noqa: TID251
"""Whether C++ is compiled and used where it is faster; `STROP_NATIVE=0` says no."""

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # noqa: TID251
"""Triton's own switch: its kernels run on CPU tensors, slowly, to be tested."""

CXX = os.environ.get("CXX") or "g++"  # noqa: TID251
"""The C++ compiler."""


def judge_key() -> str | None:
    """Return the key that a judge model's address asks for: `STROP_JUDGE_KEY`."""
    return os.environ.get("STROP_JUDGE_KEY")  # noqa: TID251


def writer_key() -> str | None:
    """Return the key that a writer model's address asks for: `STROP_WRITER_KEY`."""
    return os.environ.get("STROP_WRITER_KEY")  # noqa: TID251


def cache_folder() -> Path:
    """Return the folder of converted models and fetched data.

    `STROP_CACHE` if it is set, else `$XDG_CACHE_HOME/strop`, else `~/.cache/strop`.

    Raises:
        ConfigError: none is set, and this user has no home folder.
    """
    if folder := os.environ.get("STROP_CACHE"):  # noqa: TID251
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME")  # noqa: TID251
    if base:
        return Path(base) / "strop"
    home = Path(os.path.expanduser("~"))
    if not home.is_absolute():  # a user id without a name, as in containers, and HOME is not set
        number = ""
        if sys.platform != "win32":
            number = f" (id {os.getuid()})"
        raise ConfigError(
            f"this user{number} has no home folder, so there is no place for the cache; "
            "set STROP_CACHE, or HOME, to a folder that can be written"
        )
    return home / ".cache" / "strop"


_PRODUCTS, _MOST_PRODUCTS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", 1024
_BOUNDS = {_PRODUCTS: "128", "LRU_CACHE_CAPACITY": "64"}
"""Of the matrix products that are compiled in 16 bits, those that oneDNN keeps, and ideep, through which
PyTorch calls it. A step of one size needs about 15."""


def keep_few_products() -> None:
    """Bound the matrix products that stay compiled, unless the environment bounds them.

    Every new number of tokens has its own, of about a megabyte, and each of two caches keeps 1,024 where
    nothing is set: a run on rows of many lengths grows by 0.8 GB in its first hundred steps. Both are
    read when the first product in 16 bits runs; after that nothing changes them.
    """
    for name, value in _BOUNDS.items():
        os.environ.setdefault(name, value)  # noqa: TID251


def most_products() -> int:
    """Return how many matrix products stay compiled."""
    value = os.environ.get(_PRODUCTS, "")  # noqa: TID251
    return int(value) if value.isdecimal() else _MOST_PRODUCTS


_SIZES = (
    "WORLD_SIZE",  # torchrun, accelerate launch, deepspeed
    "OMPI_COMM_WORLD_SIZE",  # Open MPI
    "PMI_SIZE",  # MPICH and Intel MPI
    "MPI_LOCALNRANKS",  # Intel MPI and MPICH, those of this machine
    "MV2_COMM_WORLD_SIZE",  # MVAPICH2
    "PALS_SIZE",  # Cray
    "JSM_NAMESPACE_SIZE",  # jsrun
    "FLUX_JOB_SIZE",  # Flux
    "SLURM_STEP_NUM_TASKS",  # srun; SLURM_NTASKS is set for the batch script as well
)
_RANKS = (
    "RANK",
    "LOCAL_RANK",
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "PMIX_RANK",
    "MV2_COMM_WORLD_RANK",
    "PALS_RANKID",
    "JSM_NAMESPACE_RANK",
    "FLUX_TASK_RANK",
)


def launched_with() -> str | None:
    """Return the variable, as `WORLD_SIZE=2`, by which a launcher says that it started several.

    A size above 1 says so, and a rank above 0, as some launchers set no size.
    """
    for names, least in ((_SIZES, 2), (_RANKS, 1)):
        for name in names:
            value = os.environ.get(name, "")  # noqa: TID251
            if value.isdecimal() and int(value) >= least:
                return f"{name}={value}"
    return None


@contextlib.contextmanager
def unchanged() -> Iterator[None]:
    """Take back what the block sets in the environment, as libraries do when they are imported."""
    before = dict(os.environ)  # noqa: TID251
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):  # noqa: TID251
            del os.environ[name]  # noqa: TID251
        os.environ.update(before)  # noqa: TID251
