"""Damaged run folders: every file of a finished and of a killed run; a sentence, or the same bytes."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.trials.damage import damage_file, files_of, replace_file
from benchmarks.trials.materials import (
    MERGE,
    QUESTION,
    Materials,
    Place,
    equal,
    evaluated,
    exported,
    trained,
)
from benchmarks.trials.runner import TrialError

Attempt = Callable[[Materials, str, random.Random], None]
COUNT = 90


def trials() -> Iterator[tuple[str, Attempt]]:
    """Yield damage of a killed run that is resumed, and of a finished one that is used."""
    for number in range(COUNT):
        yield f"stopped-{number}", _resume
    for number in range(COUNT):
        yield f"finished-{number}", _use
    for number in range(20):
        yield f"moved-{number}", _other_base


def _damaged(folder: Path, chance: random.Random, skip: tuple[str, ...] = ()) -> str:
    file = chance.choice(
        [f for f in files_of(folder) if not str(f.relative_to(folder)).startswith(skip)]
    )
    how = (replace_file if chance.random() < 0.2 else damage_file)(file, chance)
    return f"{file.relative_to(folder)} {how}"


def _resume(materials: Materials, name: str, chance: random.Random) -> None:
    place = materials.place(name, ("model", "rows.jsonl", "cache", "stopped"))
    what = _damaged(place.folder / "run", chance)
    with_reason(what, lambda: _resume_to_the_end(place, materials))
    materials.clear(place)


def _resume_to_the_end(place: Place, materials: Materials) -> None:
    ended = place.run("train", "--resume", "run").check()
    if ended.code == 0:
        equal(trained(place.folder / "run"), materials.trained, "the training")


def _use(materials: Materials, name: str, chance: random.Random) -> None:
    """Evaluate, export, chat with or serve a finished run, one file of which is damaged."""
    place = materials.place(name, ("model", "rows.jsonl", "cache", "run"))
    use = chance.choice(("eval", "merged", "chat", "chat"))
    skip = () if use == "chat" else ("export",)
    what = _damaged(
        place.folder / "run", chance, ("checkpoints", "log.jsonl", "report.html", *skip)
    )
    with_reason(what, lambda: _used(place, materials, use))
    materials.clear(place)


def _used(place: Place, materials: Materials, use: str) -> None:
    if use == "eval":
        (place.folder / "run" / "evaluation.json").unlink(missing_ok=True)
        if place.run("eval", "run").check().code == 0:
            equal(evaluated(place.folder / "run"), materials.evaluated, "the evaluation")
    elif use == "merged":
        if place.run(*MERGE).check().code == 0:
            merged = exported(place.folder / "run" / "export" / "merged")
            equal(merged, materials.merged, "the export")
    else:
        ended = place.run(*QUESTION).check()
        if ended.code == 0:
            equal(ended.output, materials.answer, "the answer")


def _other_base(materials: Materials, name: str, chance: random.Random) -> None:
    """Damage the base model's folder under a run; weights and configuration must be recognised."""
    part = chance.choice(("run", "stopped"))
    place = materials.place(name, ("model", "rows.jsonl", "cache", part))
    file = chance.choice(files_of(place.folder / "model"))
    what = f"model/{file.name} {damage_file(file, chance)}"
    if part == "stopped":
        with_reason(what, lambda: _resume_to_the_end(place, materials))
    else:
        with_reason(what, lambda: _used(place, materials, chance.choice(("eval", "merged"))))
    materials.clear(place)


def with_reason(what: str, work: Callable[[], None]) -> None:
    """Do the work; a failure names what was damaged."""
    try:
        work()
    except TrialError as e:
        raise TrialError(e.kind, f"{what}: {e.why}") from None
