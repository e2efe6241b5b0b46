"""Writes a run in the forms that other programs load, and certifies each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from strop.core.files import scratch_folder, written_whole
from strop.core.progress import Progress, silent
from strop.core.system.disk import check_room
from strop.exporting.arguments import REWARD_TARGETS, check
from strop.exporting.certify.base_choice import measured
from strop.exporting.certify.certificate import Certificate, not_compared
from strop.exporting.certify.certify import certify, check_loaders
from strop.exporting.certify.record import record_reference
from strop.exporting.certify.reference import ReferenceOutputs
from strop.exporting.gguf.channel_scaling import ChannelScaling
from strop.exporting.gguf.quant_spec import forms
from strop.exporting.safetensors.adapter import over_base
from strop.exporting.targets import Job, Tuned, jobs
from strop.exporting.weights.base_weights import bases
from strop.exporting.weights.scored import ScoredWeights
from strop.exporting.weights.sensitivity import Sensitivity
from strop.exporting.weights.tuned import TunedWeights
from strop.models.loading import located
from strop.planning.rewards import check_writes
from strop.runs import model_card, report
from strop.runs.reward_model import Classifier, rewards_answers
from strop.training import Run


@dataclass(frozen=True, slots=True)
class Exported:
    """One thing that was written."""

    target: str
    format: str
    path: Path
    """Folder that was written."""
    nbytes: int
    certificate: Certificate | None
    """None with `certified=False`."""


def export(
    run: Run | str | Path,
    *targets: str,
    quant: str | Sequence[str] = "f16",
    out: str | Path | None = None,
    data: Any = None,
    dtype: str | None = None,
    certified: bool = True,
    progress: Progress = silent,
) -> list[Exported]:
    """Write a run for other programs and certify that each agrees with the trained model.

    Args:
        run: a finished run, or its folder.
        *targets: names of `TARGETS`.
        quant: forms of GGUF files, as a list or joined by commas; see `strop.exporting.gguf.quant_spec`.
        out: the folder to write into; None takes `export` in the run's folder.
        data: rows to compare on, as `strop.data.read` takes them; None takes the rows that the
            run held out.
        dtype: of merged weights; None stores them as the base does.
        certified: open each export with its own loader and compare it.
        progress: called with each stage.

    Returns:
        The exports; look at `certificate.passed` of each.

    Raises:
        ConfigError: a target or number format that is not known, or no run.
        MissingPackageError: a package that opens what is to be certified is not installed.
        UnsupportedError: there is no room on the disk, or a target cannot hold this model.
        DataError: a file of the run or of its base is missing or damaged.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    check(targets, dtype)
    if not REWARD_TARGETS.issuperset(targets):
        check_writes(run.path, run.settings.get("method"))
    if certified:
        check_loaders(targets)
    requested = forms(quant)
    folder = Path(out) if out is not None else run.path / "export"
    assets = run.assets()
    classifier = Classifier.of(assets.folder) if rewards_answers(run) else None

    def planned(weights: TunedWeights) -> list[Job]:
        sensitivity = Sensitivity(run.model, weights, progress)
        tuned = Tuned(run.settings, weights, assets, sensitivity, scaling, classifier)
        return list(jobs(targets, requested, tuned, dtype))

    named, adapter = bases(run.settings, assets), run.weights()
    first = next(iter(named))
    scaling = ChannelScaling(run.activation_stats(), assets.text_config)
    if classifier is None:
        pending = planned(TunedWeights(named[first], adapter))
    else:  # on the base that it was trained on, and no other
        pending = planned(ScoredWeights(named[first], adapter, classifier))
        named = {first: named[first]}
    check_room(folder, {job.name: job.nbytes for job in pending})
    for base in [job.base for job in pending if job.base is not None]:
        base.check_room()
    if not certified:
        _write(run, folder, pending, progress)
        return [Exported(j.target, j.format, folder / j.name, j.nbytes, None) for j in pending]
    asking = "sampling answers from" if classifier is None else "scoring answers by"
    progress(f"{asking} the trained model", 0, len(pending) + 1)
    reference = record_reference(run, assets, data)
    if len(named) > 1:
        progress("comparing the bases", 0, len(pending) + 1)
        candidates = {name: TunedWeights(base, adapter) for name, base in named.items()}
        width = None if dtype is None else getattr(torch, dtype)
        reference = measured(reference, assets, candidates, scaling, width)
        if reference.base != first:
            pending = planned(candidates[reference.base])
    _write(run, folder, pending, progress)
    return _certified(run, folder, pending, reference, progress)


def _write(run: Run, folder: Path, jobs: Sequence[Job], progress: Progress) -> None:
    total, done = sum(job.nbytes for job in jobs), 0
    for job in jobs:

        def count(size: int) -> None:
            nonlocal done
            done += size
            progress("writing megabytes", done // 10**6, total // 10**6)

        with written_whole(folder / job.name) as scratch:
            job.write(scratch, count)
            not_compared(job.target, job.format, rewards=rewards_answers(run)).save(scratch)
            model_card.write(run, scratch, job.target)


def _certified(
    run: Run, folder: Path, jobs: Sequence[Job], reference: ReferenceOutputs, progress: Progress
) -> list[Exported]:
    exported = []
    with scratch_folder("export") as work:
        reference.save(work)
        for i, job in enumerate(jobs, 1):
            progress(f"comparing {job.name}", i, len(jobs) + 1)
            path = folder / job.name
            opened, adapter = path / job.opened, None
            if job.target == "adapter":
                opened = over_base(path, located(run.model), work / "adapter")
            if job.base is not None:
                opened, adapter = job.base.file(), opened
            certificate = certify(path, job.target, job.format, opened, work, reference, adapter)
            model_card.write(run, path, job.target, certificate.verdict)
            exported.append(Exported(job.target, job.format, path, job.nbytes, certificate))
    progress("comparing", len(jobs), len(jobs))
    run.update(
        exports={
            **run.record.get("exports", {}),
            **{str(e.path): e.certificate.verdict for e in exported if e.certificate},
        }
    )
    report.write(run)
    return exported
