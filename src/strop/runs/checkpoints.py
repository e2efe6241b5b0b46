"""Checkpoints that are known to be whole, and what is said when one cannot be written."""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from strop.core.errors import StropError, UnsupportedError
from strop.core.files import write_json
from strop.core.system.disk import free_bytes

MARK = "whole.json"
"""Written last: the sizes of all files of a checkpoint. Without it a checkpoint is a torso."""
KEPT = 2
"""Whole checkpoints that stay on disk."""
_FULL = 1_000_000
"""With fewer bytes free a failed write needs no other explanation."""


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step after which a checkpoint was taken."""
    return int(checkpoint.name.rpartition("-")[2])


def whole(folder: Path) -> list[Path]:
    """Return the whole checkpoints in `folder`, oldest step first."""
    found = [path for path in folder.glob("checkpoint-*") if _is_whole(path)]
    return sorted(found, key=step_of)


def newest(folder: Path) -> Path | None:
    """Return the last whole checkpoint in `folder`, or None."""
    return next(reversed(whole(folder)), None)


def seal(checkpoint: Path) -> None:
    """Force the files of `checkpoint` to the disk and mark it as whole."""
    sizes = {}
    for path in sorted(checkpoint.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        sizes[path.name] = path.stat().st_size
    write_json(checkpoint / MARK, sizes)


def best(log: Iterable[Mapping[str, Any]], last: int | None = None) -> Mapping[str, Any] | None:
    """Return the line of a run's log with the lowest held-out loss, of equal ones the earliest.

    Args:
        log: its lines; the loss before the first step is of no checkpoint, so it does not count.
        last: leave out lines of later steps.
    """
    measured = [
        line
        for line in log
        if math.isfinite(line.get("held_out_loss", math.nan))
        and 0 < line["step"] <= (math.inf if last is None else last)
    ]
    return min(measured, key=lambda line: (line["held_out_loss"], line["step"]), default=None)


def tidy(folder: Path, limit: int = KEPT, best_step: int | None = None) -> None:
    """Delete torsos and all but the newest whole checkpoints, and that of one step.

    Args:
        folder: of the checkpoints.
        limit: newest ones that stay.
        best_step: a step whose checkpoint stays, however old.
    """
    there = whole(folder)
    staying = [*there[-limit:], *(path for path in there if step_of(path) == best_step)]
    for path in folder.glob("checkpoint-*"):
        if path not in staying:
            shutil.rmtree(path)


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
    """Explain what fails while `path` is written.

    The writers below report a full disk each in its own way: safetensors as SafetensorError,
    torch as RuntimeError without a cause, Python as OSError.

    Raises:
        UnsupportedError: names the path, the reason, the room left, and how to go on.
    """
    try:
        yield
    except StropError:
        raise
    except (OSError, RuntimeError, SafetensorError) as e:
        free = free_bytes(path.parent)
        why = "the disk is full" if free < _FULL else f"{(str(e) or repr(e)).splitlines()[0]}"
        raise UnsupportedError(
            f"saving {path} failed: {why}, with {free / 1e6:,.0f} MB free there; "
            "make room, or move the run to a larger disk, then resume it"
        ) from e


def _is_whole(checkpoint: Path) -> bool:
    mark = checkpoint / MARK
    if not mark.is_file():
        return False
    sizes = json.loads(mark.read_text(encoding="utf-8"))
    files = [checkpoint / name for name in sizes]
    return all(f.is_file() and f.stat().st_size == sizes[f.name] for f in files)
