"""Damaged caches: compiled code, the chosen format, 4-bit codes, plans; the same bytes come out."""

import random
from collections.abc import Callable, Iterator

from benchmarks.trials.damage import damage_file, files_of, replace_file
from benchmarks.trials.materials import QUANTIZE, TRAIN, Materials, equal, exported, trained
from benchmarks.trials.runs import with_reason

COUNT = 50


def trials() -> Iterator[tuple[str, Callable[[Materials, str, random.Random], None]]]:
    """Yield damage of files of the cache, of one to all."""
    for number in range(COUNT):
        yield f"train-{number}", _train
    for number in range(10):
        yield f"quantize-{number}", _quantize


def _damage(materials: Materials, name: str, chance: random.Random) -> tuple:
    place = materials.place(name)
    cache = place.folder / "cache"
    folders = sorted(p for p in cache.iterdir() if p.is_dir() and files_of(p))
    files = [f for f in files_of(chance.choice(folders)) if f.suffix != ".lock"]
    chosen = chance.choice(files)
    how = (replace_file if chance.random() < 0.25 else damage_file)(chosen, chance)
    return place, f"{chosen.relative_to(cache)} {how}"


def _train(materials: Materials, name: str, chance: random.Random) -> None:
    place, what = _damage(materials, name, chance)

    def work() -> None:
        if place.run(*TRAIN).check().code == 0:
            equal(trained(place.folder / "run"), materials.trained, "the training")

    with_reason(what, work)
    materials.clear(place)


def _quantize(materials: Materials, name: str, chance: random.Random) -> None:
    place, what = _damage(materials, name, chance)

    def work() -> None:
        if place.run(*QUANTIZE).check().code == 0:
            equal(exported(place.folder / "small"), materials.quantized, "the quantised model")

    with_reason(what, work)
    materials.clear(place)
