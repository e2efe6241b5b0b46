"""JSON files: whole or absent, read under the guard; those of the cache; and values in YAML."""

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strop.core.errors import DataError, StropError
from strop.core.files.guard import reading
from strop.core.files.whole import written_whole

_SEAL = "sha256"


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with written_whole(path) as scratch:
        scratch.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path, *, hint: str = "copy it again") -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Args:
        path: of the file.
        hint: what to do about a damaged file, the end of the message.

    Raises:
        DataError: the file cannot be read, is not valid JSON, or holds no object.
    """
    with reading(path, hint):
        value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object; {hint}")
    return value


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object whose entry sha256 is the digest of all others, whole or not at all."""
    write_json(path, {**value, _SEAL: _digest(value)})


def read_sealed(path: Path, *, hint: str = "put it back from a copy") -> dict[str, Any]:
    """Return what `write_sealed` wrote; an object without a digest is taken as it is.

    Raises:
        DataError: it cannot be read, or was changed since.
    """
    value = read_json(path, hint=hint)
    seal = value.pop(_SEAL, None)
    if seal is not None and seal != _digest(value):
        raise DataError(
            f"{path} is damaged, or was changed by hand: it does not have the SHA-256 that it says; "
            f"{hint}, or remove its entry {_SEAL} if the change was meant"
        )
    return value


def write_cached(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON into the cache; where that cannot be written, it is computed again next time."""
    with contextlib.suppress(StropError):
        write_sealed(path, value)


def read_cached(path: Path) -> dict[str, Any]:
    """Return what `write_cached` wrote; nothing where it is not there, or changed by a single bit."""
    with contextlib.suppress(StropError):
        if _SEAL in read_json(path):
            return read_sealed(path)
    return {}


def _digest(value: Mapping[str, Any]) -> str:
    """Return the digest of an object as it is once it is read again."""
    plain = json.loads(json.dumps(value))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def yaml_value(text: str) -> Any:
    """Return what a text says in YAML 1.1, but 5e-4 is a number, as in YAML 1.2.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """PyYAML's, with these numbers."""

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
        list("-+0123456789."),
    )
    return yaml.load(text, Loader=Loader)
