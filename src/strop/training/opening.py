"""Folder and settings of a training, new or resumed, before anything heavy is imported."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strop.core.errors import ConfigError
from strop.data.reading.blend import lasting, sources_named, stem_of
from strop.planning.settings import Settings
from strop.runs.run import Run


@dataclasses.dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that is about to train: its folder, its settings, and which of them the caller set."""

    run: Run
    settings: Settings
    explicit: Mapping[str, Any]
    resumed: bool


def open_run(explicit: Mapping[str, Any], resume: str | Path | None = None) -> OpenRun:
    """Read the settings and return the run that they start, or the one to resume.

    Nothing is written.

    Args:
        explicit: fields of `Settings` that the caller set; names of files and folders relative to
            the working directory become absolute.
        resume: the folder of a run to resume; None starts a new one.

    Raises:
        ConfigError: settings that cannot work, all of them listed; `out` is in use; or `resume` is
            no open run, or one with other settings.
    """
    explicit = dict(explicit)
    if sources_named(explicit.get("data")):
        explicit["data"] = lasting(explicit["data"])
    if isinstance(explicit.get("model"), str | Path):
        explicit["model"] = _absolute(str(explicit["model"]))
    return _new_run(explicit) if resume is None else _resumed_run(Path(resume), explicit)


def _new_run(explicit: dict[str, Any]) -> OpenRun:
    settings = Settings.read(explicit)
    path = Path(settings.out) if settings.out else _free_folder(settings)
    if Run.is_at(path):
        raise ConfigError(
            f"{path} already holds a run; resume it with resume={path}, or give another out"
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"out is {path}, which is not an empty folder; give another one")
    return OpenRun(Run(path), dataclasses.replace(settings, out=str(path)), explicit, resumed=False)


def _resumed_run(path: Path, explicit: dict[str, Any]) -> OpenRun:
    run = Run.open(path)
    if run.finished:
        raise ConfigError(
            f"{run.path} is finished; there is nothing to resume; {_further_training(run)}"
        )
    out = explicit.pop("out", None)
    if out is not None and Path(out).absolute() != run.path.absolute():
        raise ConfigError(f"out is {out}, but the run to resume stays in {run.path}")
    recorded = run.settings
    changed = [n for n in explicit if n not in recorded or explicit[n] != recorded[n]]
    if changed:
        listed = ", ".join(f"{name} is {recorded.get(name)!r}" for name in changed)
        raise ConfigError(
            f"a resumed run keeps its settings, and in {run.path} {listed}; "
            f"leave out {', '.join(changed)}; or {_further_training(run)}"
        )
    return OpenRun(run, Settings.read(recorded), explicit, resumed=True)


def _free_folder(settings: Settings) -> Path:
    stem = stem_of(settings.data) if settings.data else "rows"
    number = 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return path


def _further_training(run: Run) -> str:
    """Return how to train the model of a run further, with other settings."""
    return (
        f"to train its model further, merge it (strop export {run.path} --to merged) and start a "
        f"new run on that (strop train DATA --model {run.path / 'export' / 'merged'})"
    )


def _absolute(name: str) -> str:
    return str(Path(name).absolute()) if Path(name).exists() else name
