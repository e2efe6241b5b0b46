"""A build cache: builds a folder once per key, and again when the key changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from strop.core import env
from strop.core.files import write_json, written_whole

_STAMP = "made_from.json"
"""File of each cached folder that has its key."""


def cached_folder(name: str, key: dict[str, Any], build: Callable[[Path], None]) -> Path:
    """Return the folder `name` among the cached models, built if it is not there.

    Args:
        name: of the folder; no other source may have it.
        key: of the source, as JSON; a folder of another key is built again.
        build: writes the folder under the path that it is given.
    """
    folder = _place(name)
    if is_cached(name, key):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{name}.lock"):  # two processes, one conversion
        if not is_cached(name, key):
            with written_whole(folder) as scratch:
                build(scratch)
                write_json(scratch / _STAMP, key)
    return folder


def is_cached(name: str, key: dict[str, Any]) -> bool:
    """Return whether `cached_folder` has the folder `name` of this key."""
    return bool(key_of(_place(name)) == key)


def _place(name: str) -> Path:
    return env.cache_folder() / "models" / name


def key_of(folder: Path) -> Any:
    """Return the key of a folder that `cached_folder` built; None for any other."""
    stamp = folder / _STAMP
    return json.loads(stamp.read_text(encoding="utf-8")) if stamp.is_file() else None
