"""A build cache: builds a folder once per key, and again when the key changes."""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from strop.core import env
from strop.core.digest import folder_digests
from strop.core.errors import StropError
from strop.core.files import read_json, write_json, writing, written_whole

logger = logging.getLogger(__name__)

_STAMP = "cached.json"
"""File of each cached folder: its key, and the SHA-256 of every other file."""


def cached_folder(
    name: str, key: dict[str, Any], build: Callable[[Path], None], *, shelf: str = "models"
) -> Path:
    """Return the folder `name` of the cache, built if it is not there, or damaged.

    Args:
        name: of the folder; no other source may have it.
        key: of the source, as JSON; a folder of another key is built again.
        build: writes the folder under the path that it is given.
        shelf: the folder of the cache in which it lies.

    Raises:
        UnsupportedError: the cache cannot be written.
    """
    folder = env.cache_folder() / shelf / name
    if _is_whole(folder, key):
        return folder
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{name}.lock"):  # two processes, one conversion
            if not _is_whole(folder, key):
                if key_of(folder) == key:
                    logger.warning("%s is not what was written there; it is built again", folder)
                with written_whole(folder) as scratch:
                    build(scratch)
                    write_json(scratch / _STAMP, {"key": key, "sha256": _digests(scratch)})
    return folder


def is_cached(name: str, key: dict[str, Any]) -> bool:
    """Return whether `cached_folder` has the folder `name` of this key, as it was written."""
    return _is_whole(env.cache_folder() / "models" / name, key)


def _is_whole(folder: Path, key: dict[str, Any]) -> bool:
    stamp = _stamp(folder)
    return stamp is not None and stamp["key"] == key and stamp["sha256"] == _digests(folder)


def _digests(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in folder_digests(folder).items() if name != _STAMP}


def _stamp(folder: Path) -> dict[str, Any] | None:
    with contextlib.suppress(StropError):  # not there, or damaged
        stamp = read_json(folder / _STAMP)
        if "key" in stamp and isinstance(stamp.get("sha256"), dict):
            return stamp
    return None


def key_of(folder: Path) -> Any:
    """Return the key of a folder that `cached_folder` built; None for any other."""
    stamp = _stamp(folder)
    return None if stamp is None else stamp["key"]
