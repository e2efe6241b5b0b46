"""Damaged GGUF files: headers, tables, cuts, before chat, training and serving; always a sentence."""

import random
from collections.abc import Callable, Iterator

from benchmarks.trials.damage import cut, empty, flipped, noise, zeros
from benchmarks.trials.materials import Materials
from benchmarks.trials.runs import with_reason

COUNT = 70
HEADER = 4096


def trials() -> Iterator[tuple[str, Callable[[Materials, str, random.Random], None]]]:
    """Yield damage of a GGUF file, most of it in the header, and of one that a run exported."""
    for number in range(COUNT):
        yield f"file-{number}", _open
    for number in range(16):
        yield f"export-{number}", _exported


def _damaged(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    kind = chance.choice((cut, empty, flipped, flipped, noise, noise, zeros))
    size = chance.choice((64, 512, HEADER, HEADER, len(content)))
    changed = kind(content[:size], chance)
    return f"{kind.__name__} in {size}", changed if kind is cut else changed + content[size:]


def _open(materials: Materials, name: str, chance: random.Random) -> None:
    place = materials.place(name)
    source = next((materials.root / "run" / "export").rglob("*.gguf"))
    what, content = _damaged(source.read_bytes(), chance)
    (place.folder / "file.gguf").write_bytes(content)
    train = ("train", "rows.jsonl", "--model", "file.gguf", "--out", "run", "--max-steps", "1")
    chat = ("chat", "file.gguf", "--say", "east?", "--max-tokens", "4")
    command = train if chance.random() < 0.4 else chat
    with_reason(f"{what}, {command[0]}", lambda: place.run(*command).check())
    materials.clear(place)


def _exported(materials: Materials, name: str, chance: random.Random) -> None:
    """A run's export is recognised by its hash: a damaged one never answers."""
    place = materials.place(name, ("model", "rows.jsonl", "cache", "run"))
    file = next((place.folder / "run" / "export").rglob("*.gguf"))
    before = file.read_bytes()
    what, content = _damaged(before, chance)
    file.write_bytes(content)

    def work() -> None:
        ended = place.run("chat", "run", "--say", "east?", "--max-tokens", "4").check()
        assert ended.code or content == before, "a damaged export answered"

    with_reason(what, work)
    materials.clear(place)
