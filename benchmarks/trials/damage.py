"""Seeded random damage: of bytes, of JSON, of files. Nothing here is aimed at one program."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, -(2**63), 2**70, 0.5, -0.0, 1e308, float("nan")),
    *(float("inf"), "", " ", "x", "é\u0000", "../..", "\ud800", [], {}, [None], {"": {}}, [[[[]]]]),
)


def cut(content: bytes, chance: random.Random) -> bytes:
    """Return a beginning."""
    return content[: chance.randrange(max(1, len(content)))]


def empty(content: bytes, chance: random.Random) -> bytes:
    """Return nothing."""
    return b""


def flipped(content: bytes, chance: random.Random) -> bytes:
    """Return the content with one to eight bits changed."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 8) if changed else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def noise(content: bytes, chance: random.Random) -> bytes:
    """Return random bytes in place of a part."""
    begin = chance.randrange(len(content) + 1)
    length = chance.choice((1, 16, 64, 512))
    return content[:begin] + chance.randbytes(length) + content[begin + length :]


def zeros(content: bytes, chance: random.Random) -> bytes:
    """Return the content with zeros in place of its end, as a loss of power may leave it."""
    begin = chance.randrange(len(content) + 1)
    return content[:begin] + b"\0" * (len(content) - begin)


def doubled(content: bytes, chance: random.Random) -> bytes:
    """Return the content with a part of it twice."""
    begin = chance.randrange(len(content) + 1)
    end = begin + chance.randrange(1 + len(content) - begin)
    return content[:end] + content[begin:]


def other_json(content: bytes, chance: random.Random) -> bytes:
    """Return JSON of another type."""
    return json.dumps(chance.choice(([], {}, "x", 1, None, [1, 2], {"x": 1}))).encode()


def swapped(content: bytes, chance: random.Random) -> bytes:
    """Return JSON with one value of another type, a name changed, or one left out."""
    try:
        value = json.loads(content)
    except ValueError:
        return noise(content, chance)
    return json.dumps(mutated(value, chance)).encode("utf-8", "surrogatepass")


BYTES = (cut, empty, flipped, noise, zeros, doubled)
JSON = (*BYTES, other_json, swapped, swapped, swapped)


def mutated(value: Any, chance: random.Random) -> Any:
    """Return a JSON value with one change somewhere inside."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        what = chance.random()
        if what < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if what < 0.2:
            return {(k + "_" if k == key else k): v for k, v in value.items()}
        return {k: (mutated(v, chance) if k == key else v) for k, v in value.items()}
    if isinstance(value, list) and value and chance.random() < 0.85:
        place = chance.randrange(len(value))
        return [mutated(v, chance) if i == place else v for i, v in enumerate(value)]
    return chance.choice(VALUES)


def damage_file(path: Path, chance: random.Random) -> str:
    """Damage one file in place; return how."""
    kinds: tuple[Callable[[bytes, random.Random], bytes], ...] = BYTES
    kinds = JSON if path.suffix in (".json", ".jsonl") else BYTES
    kind = chance.choice(kinds)
    path.write_bytes(kind(path.read_bytes(), chance))
    return kind.__name__


def replace_file(path: Path, chance: random.Random) -> str:
    """Put something else under the name of a file; return what."""
    kind = chance.choice(("nothing", "folder", "dangling", "loop", "other"))
    other = chance.choice(sorted(path.parent.iterdir()))
    content = other.read_bytes() if other.is_file() else b"{}"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "other":
        path.write_bytes(content)
    return kind


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder, in a stable order."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def snapshot(folder: Path) -> dict[str, int]:
    """Return the files of a folder and their sizes."""
    return {str(p.relative_to(folder)): os.lstat(p).st_size for p in files_of(folder)}
