"""Damaged model folders: every file, before a training; it ends well or with a sentence."""

import random
from collections.abc import Callable, Iterator

from benchmarks.trials.damage import damage_file, files_of, replace_file
from benchmarks.trials.materials import Materials
from benchmarks.trials.runs import with_reason

COUNT = 200
FINDINGS = (1,)
"""Exit code of `strop data check` where it names a severe error."""
SHORT = ("train", "rows.jsonl", "--model", "model", "--out", "run", "--max-steps", "1")


def trials() -> Iterator[tuple[str, Callable[[Materials, str, random.Random], None]]]:
    """Yield damage of each file of a model's folder in turn."""
    for number in range(COUNT):
        yield f"folder-{number}", _open


def _open(materials: Materials, name: str, chance: random.Random) -> None:
    place = materials.place(name)
    files = [f for f in files_of(place.folder / "model") if f.name != "model.safetensors"]
    weights = place.folder / "model" / "model.safetensors"
    file = weights if chance.random() < 0.2 else chance.choice(files)
    how = (replace_file if chance.random() < 0.3 else damage_file)(file, chance)
    command = chance.choice(
        (
            (*SHORT, "--bits", "32", "--held-out", "2"),
            (*SHORT, "--held-out", "2"),
            ("chat", "model", "--say", "east?", "--max-tokens", "4"),
            ("data", "check", "rows.jsonl", "--model", "model"),
            ("eval", "model", "rows.jsonl", "--limit", "4"),
        )
    )
    with_reason(
        f"{file.name} {how}, {command[0]}",
        lambda: place.run(*command).check(codes=FINDINGS if command[0] == "data" else ()),
    )
    materials.clear(place)
