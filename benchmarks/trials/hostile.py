"""Folders that hold Python files by the names of libraries, beside the data: none of them runs."""

import random
from collections.abc import Callable, Iterator

from benchmarks.trials.materials import EXPORT, Materials
from benchmarks.trials.network import LOCAL, RUN
from benchmarks.trials.runner import TrialError

NAMES = ("numpy", "torch", "types", "queue", "json", "random", "tokenizers", "datasets", "gguf",
         "transformers", "safetensors", "xllamacpp", "sitecustomize", "usercustomize", "strop",
         "typing", "logging", "peft", "yaml", "socket")  # fmt: skip
_MARK = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n"


def trials() -> Iterator[tuple[str, Callable[[Materials, str, random.Random], None]]]:
    """Yield each command among all names, and exports among each alone."""
    for command in LOCAL:
        yield f"all-{command}", _all
    for name in NAMES:
        yield f"export-{name}", _one


def _all(materials: Materials, name: str, chance: random.Random) -> None:
    command, parts = LOCAL[name.rsplit("-", 1)[1]]
    _attempt(materials, name, command, parts, NAMES, fresh=True)


def _one(materials: Materials, name: str, chance: random.Random) -> None:
    """An export opens what it wrote in processes of its own, started from here."""
    _attempt(materials, name, EXPORT, RUN, (name.rsplit("-", 1)[1],), fresh=False)


def _attempt(
    materials: Materials,
    name: str,
    command: tuple[str, ...],
    parts: tuple[str, ...],
    names: tuple[str, ...],
    fresh: bool,
) -> None:
    place = materials.place(name, parts)
    for module in names:
        (place.folder / f"{module}.py").write_text(_MARK)
    ended = place.run(*command, fresh=fresh).check()
    if ran := sorted(p.name for p in place.folder.rglob("*.ran")):
        raise TrialError("broken promise", f"ran {', '.join(ran)}")
    if ended.code:
        raise TrialError("broken promise", ended.sentence)
    materials.clear(place)
