"""Folder and settings of a training, new or resumed, before anything heavy is imported."""

import contextlib
import dataclasses
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strop.core.errors import ConfigError, MissingPackageError, spelt
from strop.core.files import clear_leftovers
from strop.data.reading.blend import check_files, lasting, sources_named, stem_of
from strop.models.files.places import check_name
from strop.planning import rewards
from strop.planning.argument_tables import TRACKERS
from strop.planning.evaluations import trackers
from strop.planning.settings import Settings, without_auto
from strop.runs.owner import LOCK, Owner
from strop.runs.run import Run


@dataclasses.dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that is about to train: its folder, its settings, and which of them the caller set."""

    run: Run
    settings: Settings
    explicit: Mapping[str, Any]
    resumed: bool
    owner: Owner
    """Holds the folder until the training ends."""

    def __enter__(self) -> "OpenRun":
        """Return the run itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Release the folder to other processes."""
        self.owner.release()


def open_run(
    explicit: Mapping[str, Any],
    resume: str | Path | None = None,
    *,
    overwrite: bool = False,
    model_given: bool = False,
) -> OpenRun:
    """Read the settings and return the run that they start, or the one to resume.

    Its folder is made and locked, so that of several processes only one trains in it.

    Args:
        explicit: fields of `Settings` that the caller set; names of files and folders relative to
            the working directory become absolute.
        resume: the folder of a run to resume; None starts a new one.
        overwrite: delete the run in `out`; one without a step is always deleted.
        model_given: the caller has the model as an object, so its name need not stand for one.

    Raises:
        DataError: a file to train on, or of the model, is not there.
        ConfigError: settings that cannot work, all of them listed; `out` is in use; or `resume` is
            no open run, or one with other settings.
        MissingPackageError: a tracker's package is not installed.
    """
    explicit = without_auto(explicit)
    if sources_named(explicit.get("data")):
        explicit["data"] = lasting(explicit["data"])
    if isinstance(explicit.get("replay"), str):
        explicit["replay"] = lasting(explicit["replay"])
        check_files(explicit["replay"])
    if isinstance(explicit.get("held_out"), str | Path):
        explicit["held_out"] = lasting(explicit["held_out"])
    if isinstance(explicit.get("reward"), str | list):
        explicit["reward"] = rewards.lasting(explicit["reward"])
    for name in ("model", "continue_from", "add_tokens", "teacher"):
        if isinstance(explicit.get(name), str | Path):
            explicit[name] = _absolute(str(explicit[name]))
    if resume is None:
        settings = Settings.read(explicit)
        _check_trackers(settings)
        if settings.data is not None:
            check_files(settings.data)
        if isinstance(settings.held_out, str):
            check_files(settings.held_out)
        if not model_given:
            check_name(settings.model)
        if settings.teacher is not None and not _is_of_run(Path(settings.teacher)):
            check_name(settings.teacher)
        return _new_run(settings, explicit, overwrite)
    if overwrite:
        raise ConfigError("overwrite and resume exclude one another; leave one of them out")
    return _resumed_run(Path(resume), explicit)


def _is_of_run(path: Path) -> bool:
    """Return True for the folder of a run, or of one of its checkpoints."""
    return Run.is_at(path) or (path.parent.name == "checkpoints" and Run.is_at(path.parent.parent))


def _new_run(settings: Settings, explicit: Mapping[str, Any], overwrite: bool) -> OpenRun:
    if settings.out is None:
        owner = _free_folder(settings)
    else:
        path = Path(settings.out)
        _check_place(path)
        owner = Owner(path)
    try:
        run = Run(owner.path)
        if Run.is_at(run.path):
            if run.began and not overwrite:
                raise ConfigError(
                    f"{run.path} already holds a run; resume it with {spelt('resume', str(run.path))}, "
                    f"replace it with {spelt('overwrite')}, or give another {spelt('out')}"
                )
            run.clear()
    except BaseException:
        owner.release()
        raise
    settings = dataclasses.replace(settings, out=str(run.path))
    return OpenRun(run, settings, explicit, resumed=False, owner=owner)


def _check_place(path: Path) -> None:
    """Refuse a folder in which a run would lie among other files."""
    if not path.exists() or Run.is_at(path):
        return
    if path.is_dir():
        clear_leftovers(path / "run.json")  # of one that was killed before it had begun
    if not path.is_dir() or any(file.name != LOCK for file in path.iterdir()):
        raise ConfigError(f"out is {path}, which is not an empty folder; give another one")


def _resumed_run(path: Path, explicit: dict[str, Any]) -> OpenRun:
    run = Run.open(path)
    _check_open(run)
    out = explicit.pop("out", None)
    if out is not None and Path(out).absolute() != run.path.absolute():
        raise ConfigError(f"out is {out}, but the run to resume stays in {run.path}")
    recorded = run.settings
    _check_trackers(Settings.read(recorded))
    changed = [n for n in explicit if n not in recorded or explicit[n] != recorded[n]]
    if changed:
        listed = ", ".join(f"{name} is {recorded.get(name)!r}" for name in changed)
        raise ConfigError(
            f"a resumed run keeps its settings, and in {run.path} {listed}; "
            f"leave out {', '.join(changed)}; or {_further_training(run)}"
        )
    owner = Owner(run.path)
    try:
        _check_open(run)  # another process may have finished it meanwhile
        return OpenRun(run, Settings.read(recorded), explicit, resumed=True, owner=owner)
    except BaseException:
        owner.release()
        raise


def _check_trackers(settings: Settings) -> None:
    """Refuse trackers whose packages are not installed, all at once."""
    missing = [
        f"report_to is {name}, which is not installed: pip install {TRACKERS[name][1]}"
        for name in trackers(settings)
        if not any(importlib.util.find_spec(module) for module in TRACKERS[name][0])
    ]
    if missing:
        raise MissingPackageError("\n".join(missing))


def _check_open(run: Run) -> None:
    """Refuse a run that is finished."""
    if run.finished:
        raise ConfigError(
            f"{run.path} is finished; there is nothing to resume; {_further_training(run)}"
        )


def _free_folder(settings: Settings) -> Owner:
    """Return the next free folder under runs/, made by this process and no other."""
    stem = stem_of(settings.data) if settings.data else "rows"
    number = 1
    while True:
        path = Path("runs") / f"{stem}-{number}"
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            return Owner(path)
        number += 1


def _further_training(run: Run) -> str:
    """Return a hint how to train the model of a run further, with other settings."""
    return (
        f"to train its model further, merge it (strop export {run.path} --to merged) and start a "
        f"new run on that (strop train DATA --model {run.path / 'export' / 'merged'})"
    )


def _absolute(name: str) -> str:
    return str(Path(name).absolute()) if Path(name).exists() else name
