"""A build cache: builds a folder once per key, and again when the key changes."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from strop.core import env
from strop.core.digest import folder_digests
from strop.core.files import write_json, written_whole

logger = logging.getLogger(__name__)

_STAMP = "cached.json"
"""File of each cached folder: its key, and the SHA-256 of every other file."""


def cached_folder(name: str, key: dict[str, Any], build: Callable[[Path], None]) -> Path:
    """Return the folder `name` among the cached models, built if it is not there, or damaged.

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
                write_json(scratch / _STAMP, {"key": key, "sha256": _digests(scratch)})
    return folder


def is_cached(name: str, key: dict[str, Any]) -> bool:
    """Return whether `cached_folder` has the folder `name` of this key, as it was written."""
    folder = _place(name)
    stamp = _stamp(folder)
    if stamp is None or stamp["key"] != key:
        return False
    if stamp["sha256"] != _digests(folder):
        logger.warning("%s is not what was written there; it is built again", folder)
        return False
    return True


def _digests(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in folder_digests(folder).items() if name != _STAMP}


def _stamp(folder: Path) -> dict[str, Any] | None:
    try:
        stamp = json.loads((folder / _STAMP).read_text(encoding="utf-8"))
        return {"key": stamp["key"], "sha256": dict(stamp["sha256"])}
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None  # not there, or damaged


def _place(name: str) -> Path:
    return env.cache_folder() / "models" / name


def key_of(folder: Path) -> Any:
    """Return the key of a folder that `cached_folder` built; None for any other."""
    stamp = _stamp(folder)
    return None if stamp is None else stamp["key"]
