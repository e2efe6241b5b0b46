"""Fifty starts of one command while four processes are busy: one format, the same bytes."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.trials.materials import TRAIN, Materials, Place, equal, trained
from benchmarks.trials.runner import Started, TrialError

STARTS, BUSY = 50, 4
_FIRST: dict[str, Any] = {}
"""The place where all of them start, and what the first left."""


def trials() -> Iterator[tuple[str, Callable[[Materials, str, random.Random], None]]]:
    """Yield the starts; the first finds no format chosen, and a fifth are new interpreters."""
    for number in range(STARTS):
        yield f"start-{number}", _start


def _start(materials: Materials, name: str, chance: random.Random) -> None:
    if "place" not in _FIRST:
        _FIRST["place"] = materials.place("load")
        shutil.rmtree(_FIRST["place"].folder / "cache" / "compute_dtype", ignore_errors=True)
    place: Place = _FIRST["place"]
    shutil.rmtree(place.folder / "run", ignore_errors=True)
    busy = [Started(_count, place.folder) for _ in range(BUSY)]
    try:
        place.run(*TRAIN, fresh=name.endswith("9")).check()
    finally:
        for process in busy:
            process.kill()
    record = json.loads((place.folder / "run" / "run.json").read_text(encoding="utf-8"))
    dtype = record["settings"]["dtype"]
    left = trained(place.folder / "run")
    if dtype != _FIRST.setdefault("dtype", dtype):
        raise TrialError(
            "other bytes", f"computed in {dtype}, the first start in {_FIRST['dtype']}"
        )
    equal(left, _FIRST.setdefault("left", left), "the training")


def _count() -> None:
    number = 0
    while True:
        number += 1
