"""Writes a run in the forms that other programs load, and certifies each."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.core.disk import check_room
from strop.core.errors import ConfigError
from strop.core.files import written_whole
from strop.export.asking import ask
from strop.export.bases import held_base
from strop.export.certificate import Certificate
from strop.export.certifying import certify
from strop.export.forms import forms
from strop.export.targets import TARGETS, Job, Tuned, jobs
from strop.export.tuned import TunedWeights
from strop.models.frame import Frame, load_frame
from strop.training import Run

Told = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is to do."""


@dataclass(frozen=True, slots=True)
class Exported:
    """One thing that was written."""

    target: str
    format: str
    path: Path
    """Its folder."""
    nbytes: int
    certificate: Certificate | None
    """None where none was asked for."""


def export(
    run: Run | str | Path,
    *targets: str,
    quant: str | Sequence[str] = "f16",
    out: str | Path | None = None,
    data: Any = None,
    dtype: str | None = None,
    certified: bool = True,
    told: Told | None = None,
) -> list[Exported]:
    """Write a run for other programs and certify that each file is the trained model.

    Args:
        run: a finished run, or its folder.
        *targets: names of `TARGETS`.
        quant: forms of GGUF files, as a list or joined by commas; see `strop.export.forms`.
        out: the folder to write into; None takes `export` in the run's folder.
        data: rows to compare on, as `strop.data.read` takes them; None takes the rows that the
            run held out.
        dtype: of merged weights; None stores them as the base does.
        certified: open each export with its own loader and compare it.
        told: called as the work goes on.

    Returns:
        What was written; look at `certificate.passed` of each.

    Raises:
        ConfigError: a target or number format that is not known, or no run.
        UnsupportedError: there is no room on the disk, or a target cannot hold this model.
        DataError: a file of the run or of its base is missing or damaged.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    _check(targets, dtype)
    asked = forms(quant)
    folder = Path(out) if out is not None else run.path / "export"
    frame = load_frame(run.settings["model"])
    weights = TunedWeights(held_base(run.settings, frame.folder), run.weights())
    made = list(jobs(targets, asked, Tuned(run.settings, weights, frame), dtype))
    check_room(folder, {job.name: job.nbytes for job in made})
    for base in [job.base for job in made if job.base is not None]:
        base.check_room()
    total, done = sum(job.nbytes for job in made), 0
    told = told or (lambda what, part, whole: None)
    for job in made:

        def count(size: int, name: str = job.name) -> None:
            nonlocal done
            done += size
            told(f"writing {name}", done, total)

        with written_whole(folder / job.name) as scratch:
            job.write(scratch, count)
    if not certified:
        return [Exported(j.target, j.format, folder / j.name, j.nbytes, None) for j in made]
    return _certified(run, frame, folder, made, data, told)


def _check(targets: Sequence[str], dtype: str | None) -> None:
    wrong = []
    if not targets:
        wrong.append(f"there is no target; choose from {', '.join(TARGETS)}")
    wrong += [
        f"{target!r} is no target; choose from {', '.join(TARGETS)}"
        for target in targets
        if target not in TARGETS
    ]
    if dtype not in (None, "float32", "bfloat16", "float16"):
        wrong.append(f"dtype is {dtype!r}; choose from float32, bfloat16, float16")
    if wrong:
        raise ConfigError("the export cannot be made:\n  " + "\n  ".join(wrong))


def _certified(
    run: Run, frame: Frame, folder: Path, jobs: Sequence[Job], data: Any, told: Told
) -> list[Exported]:
    made = []
    work = Path(tempfile.mkdtemp(prefix="strop-export-"))
    try:
        told("asking the trained model", 0, len(jobs) + 1)
        reference = ask(run, frame, data)
        reference.save(work)
        for i, job in enumerate(jobs, 1):
            told(f"comparing {job.name}", i, len(jobs) + 1)
            path = folder / job.name
            opened, adapter = path / job.opened, None
            if job.base is not None:
                opened, adapter = job.base.file(), opened
            certificate = certify(path, job.target, job.format, opened, work, reference, adapter)
            made.append(Exported(job.target, job.format, path, job.nbytes, certificate))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    told("done", 1, 1)
    run.update(
        exports={
            **run.record.get("exports", {}),
            **{e.path.name: e.certificate.sentence for e in made if e.certificate},
        }
    )
    return made
