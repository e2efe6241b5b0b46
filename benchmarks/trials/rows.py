"""Data files of random forms and damage: findings, a sentence, or the rows that plain readers give."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.trials.files import write
from benchmarks.trials.materials import Materials
from benchmarks.trials.runner import TrialError
from benchmarks.trials.runs import with_reason

COUNT = 350


def trials() -> Iterator[tuple[str, Callable[[Materials, str, random.Random], None]]]:
    """Yield files that are checked, cleaned, shown and trained on."""
    for number in range(COUNT):
        yield f"file-{number}", _attempt


def _attempt(materials: Materials, name: str, chance: random.Random) -> None:
    place = materials.place(name)
    suffix, done, content = write(chance)
    file = place.folder / f"data.{suffix}"
    file.write_bytes(content)
    commands = (
        ("data", "check", file.name, "--model", "model"),
        ("data", "check", file.name, "--fix", "fixed.jsonl"),
        ("data", "show", file.name, "--model", "model"),
        (
            "train",
            file.name,
            "--model",
            "model",
            "--out",
            "run",
            "--max-steps",
            "1",
            "--bits",
            "32",
        ),
    )
    command = chance.choice(commands)

    def work() -> None:
        place.run(*command).check(codes=(1,) if command[:2] == ("data", "check") else ())
        if suffix == "jsonl":
            _compare(place.folder, file, lambda read: place.call(read).check())

    with_reason(f"{suffix} {done}, {' '.join(command[:2])}", work)
    materials.clear(place)


def _compare(folder: Path, file: Path, call: Callable[[Callable[[], None]], Any]) -> None:
    """Check that what strop reads of JSON lines is what Python's own reader reads."""

    def read() -> None:
        import strop
        from strop.core.errors import StropError

        try:
            contents = [
                [m.get("content") for m in row.messages or ()] for row in strop.data.read(str(file))
            ]
        except StropError as e:
            print(f"strop: {e}")
            return
        (folder / "read.json").write_text(json.dumps(contents))

    call(read)
    if not (folder / "read.json").exists():
        return
    plain = _plain(file)
    contents = json.loads((folder / "read.json").read_text())
    if plain is not None and contents != plain:
        raise TrialError("other bytes", "the rows differ from those of Python's json")


def _plain(file: Path) -> list[list[str]] | None:
    """Return the contents of each line's messages, or None where they are not all plain."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
        table = [json.loads(line) for line in lines if line.strip()]
        contents = [[m["content"] for m in row["messages"]] for row in table]
        plain = all(m["role"] in ("user", "assistant") for row in table for m in row["messages"])
    except (ValueError, KeyError, TypeError):
        return None
    return contents if plain and all(isinstance(c, str) for row in contents for c in row) else None
