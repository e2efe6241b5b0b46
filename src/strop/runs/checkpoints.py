"""Checkpoints that are known to be complete."""

import logging
import math
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from strop.core.digest import file_digest
from strop.core.errors import DataError
from strop.core.files import read_json, sync, write_json, written_whole
from strop.planning.evaluations import BestModel
from strop.runs.log import DRAWN_ANSWERS, LOG

LOWEST_LOSS = BestModel("loss")
logger = logging.getLogger(__name__)

MARK = "whole.json"
"""Written last: sizes and SHA-256 of all files of a checkpoint, which is incomplete without it."""
_NAME = re.compile(r"checkpoint-\d+")
LIMIT = 2
"""Complete checkpoints that stay on disk."""
LOGS = (LOG, DRAWN_ANSWERS)
"""Files of a run that grow with its steps, and of which a checkpoint has a copy."""


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step after which a checkpoint was taken."""
    return int(checkpoint.name.rpartition("-")[2])


def whole(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder` whose files have their sizes, oldest step first."""
    complete = [path for path in _checkpoints(folder) if _damage(path, hashed=False) is None]
    return sorted(complete, key=step_of)


def newest(folder: Path) -> Path | None:
    """Return the last checkpoint in `folder` whose files are as they were written, or None.

    A damaged one is named in the log, and the one before is tried.
    """
    for path in sorted(_checkpoints(folder), key=step_of, reverse=True):
        if not (path / MARK).exists():
            continue  # its writing was interrupted
        if (damage := _damage(path, hashed=True)) is None:
            return path
        logger.warning("%s is damaged: %s; the checkpoint before it is tried", path, damage)
    return None


def save_logs(run: Path, checkpoint: Path) -> None:
    """Copy the logs of a run into a checkpoint that is not sealed yet."""
    for name in LOGS:
        if (run / name).is_file():
            shutil.copyfile(run / name, checkpoint / name)


def restore_logs(run: Path, checkpoint: Path) -> None:
    """Put the logs of a run back to where they were when a checkpoint of it was taken.

    One that was damaged since is named in the log.
    """
    for name in LOGS:
        if not (checkpoint / name).is_file():
            continue
        saved, file = (checkpoint / name).read_bytes(), run / name
        logged = file.read_bytes() if file.is_file() else b""
        if logged == saved:
            continue
        if not logged.startswith(saved):
            logger.warning(
                "%s lacks what was logged before %s, or has other lines; it is put back from there",
                file, checkpoint.name,
            )  # fmt: skip
        with written_whole(file) as scratch:
            scratch.write_bytes(saved)


def seal(checkpoint: Path) -> None:
    """Force the files of `checkpoint` to the disk and mark it as complete."""
    files = {}
    for path in sorted(checkpoint.iterdir()):
        sync(path)
        files[path.name] = {"size": path.stat().st_size, "sha256": file_digest(path)}
    write_json(checkpoint / MARK, files)


def best(
    log: Iterable[Mapping[str, Any]], last: int | None = None, by: BestModel = LOWEST_LOSS
) -> Mapping[str, Any] | None:
    """Return the line of a run's log with the best evaluation, of equal ones the earliest.

    Args:
        log: its lines; what was measured before the first step is of no checkpoint, so it does not
            count.
        last: leave out lines of later steps.
        by: what tells the best.
    """
    sign = -1 if by.greater else 1
    measured = _evaluations(log, last, by)
    return min(measured, key=lambda line: (sign * line[by.key], line["step"]), default=None)


def stopped_early(log: Iterable[Mapping[str, Any]], last: int, by: BestModel) -> bool:
    """Return True if no evaluation up to step `last` was better in the last ones that count.

    Args:
        log: lines of a run's log.
        last: leave out lines of later steps.
        by: what tells the best, and how many evaluations may pass without a better one.
    """
    measured = _evaluations(log, last, by)
    line = best(measured, last, by)
    if by.patience is None or line is None:
        return False
    return len(measured) - 1 - measured.index(line) >= by.patience


def _evaluations(
    log: Iterable[Mapping[str, Any]], last: int | None, by: BestModel
) -> list[Mapping[str, Any]]:
    """Return the lines after the first step that have the value which tells the best."""
    steps = math.inf if last is None else last
    return [
        line
        for line in log
        if math.isfinite(line.get(by.key, math.nan)) and 0 < line["step"] <= steps
    ]


def tidy(folder: Path, limit: int = LIMIT, best_step: int | None = None) -> None:
    """Delete incomplete checkpoints and all but the newest complete ones, and that of one step.

    Args:
        folder: of the checkpoints.
        limit: number of the newest that stay.
        best_step: step whose checkpoint stays, however old.
    """
    complete = whole(folder)
    staying = [*complete[-limit:], *(path for path in complete if step_of(path) == best_step)]
    for path in _checkpoints(folder):
        if path not in staying:
            shutil.rmtree(path)


def _checkpoints(folder: Path) -> list[Path]:
    """Return the folders that a trainer writes; others, as a user's copies, are none."""
    return [
        path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name) and path.is_dir()
    ]


def _damage(checkpoint: Path, *, hashed: bool) -> str | None:
    """Return what is wrong with the files of a checkpoint, or None."""
    try:
        sealed = read_json(checkpoint / MARK)
        for name, file in sealed.items():
            path = checkpoint / name
            if not path.is_file() or path.stat().st_size != file["size"]:
                return f"{name} is missing or cut short"
            if hashed and file_digest(path) != file["sha256"]:
                return f"{name} is not what was written"
    except (DataError, KeyError, TypeError) as e:
        return f"{MARK} cannot be read ({e})"
    return None if sealed else f"{MARK} names no file"
