"""Folders in the cache that are made once from something else, and again when that changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from strop.core import env
from strop.core.files import write_json, written_whole

_STAMP = "made_from.json"


def made_once(name: str, made_from: dict[str, Any], write: Callable[[Path], None]) -> Path:
    """Return the folder `name` among the cached models, written by `write` if it is not there.

    Args:
        name: of the folder; no other source may have it.
        made_from: says in JSON what the folder was made from; where it differs, it is made anew.
        write: makes the folder under the path it is given.
    """
    folder = _place(name)
    if is_made(name, made_from):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{name}.lock"):  # two processes, one conversion
        if not is_made(name, made_from):
            with written_whole(folder) as scratch:
                write(scratch)
                write_json(scratch / _STAMP, made_from)
    return folder


def is_made(name: str, made_from: dict[str, Any]) -> bool:
    """Whether `made_once` would find the folder `name` there, made from just this."""
    return bool(made_from_of(_place(name)) == made_from)


def _place(name: str) -> Path:
    return env.cache_folder() / "models" / name


def made_from_of(folder: Path) -> Any:
    """Return what a folder that `made_once` made says it was made from; None for any other."""
    stamp = folder / _STAMP
    return json.loads(stamp.read_text(encoding="utf-8")) if stamp.is_file() else None
