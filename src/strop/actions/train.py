"""Training of a run, new or resumed, and of many under other settings."""

import dataclasses
import importlib.util
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop.core.errors import ConfigError, MissingPackageError
from strop.core.progress import Progress
from strop.training.opening import open_run

if TYPE_CHECKING:
    from strop.runs.run import Run


def train(
    settings: Mapping[str, Any],
    *,
    resume: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train on the files that the settings name; return the run's folder, its losses and time.

    Args:
        settings: fields of `Settings` that are set, read once for the whole run.
        resume: folder of a run to resume with its settings; None starts a new one.
        overwrite: delete the run in the folder of the settings first.
        quiet: show nothing on the terminal.
        progress: called after each step, instead of a bar on the terminal.

    Raises:
        StropError: the settings, the data or the model cannot be used.
    """
    with open_run(settings, resume, overwrite=overwrite) as opened:
        start = time.perf_counter()
        from strop.training.fine_tuning import fine_tune

        run = fine_tune(opened, quiet=quiet, progress=progress)
    return {
        "run": str(run.path),
        "finished": run.finished,
        "diverged": run.diverged or None,
        "losses": _losses(run),
        "report": str(run.report),
        "seconds": round(time.perf_counter() - start, 1),
    }


def _losses(run: "Run") -> dict[str, float | None]:
    """Return the losses of a run at first and last."""
    from strop.runs.outcome import outcome

    losses = outcome(run.log, run.record)
    return {
        "first": losses.first_loss,
        "last": losses.mean_loss,
        "held_out_first": losses.eval_loss_before,
        "held_out_last": losses.eval_loss_after,
    }


def sweep(
    settings: Mapping[str, Any],
    over: Mapping[str, Any],
    *,
    folder: Path | None = None,
    resume: Path | None = None,
    budget: float | None = None,
    most: int | None = None,
    announce: Callable[[Mapping[str, Any]], None] = lambda trial: None,
) -> dict[str, Any]:
    """Train runs under settings that optuna chooses, until the budget is spent; return the best.

    Args:
        settings: of every run, those that are set; `data` among them.
        over: for each setting that is tried a list of values, or `low` and `high` of a range.
        folder: new or empty; None takes the next free one under sweeps/.
        resume: folder of a sweep to go on with; settings and `over` are those it began with.
        budget: seconds of all trials together; None has no limit, or the resumed sweep's.
        most: number of trials; None has no limit, or the resumed sweep's.
        announce: is given each trial that ended.

    Returns:
        `sweep` and `page`, `metric`, `trials` in the order of time, `best` and the `command` that
        trains it again, and whether the sweep `finished` or was interrupted.

    Raises:
        ConfigError: the sweep cannot be made, all faults listed; or nothing ends it.
        MissingPackageError: optuna is not installed.
        StropError: the settings, the data or the model cannot be used.
    """
    if importlib.util.find_spec("optuna") is None:
        raise MissingPackageError(
            "sweeps need optuna, which is not installed: pip install 'strop[sweep]'"
        )
    started = time.perf_counter()
    from strop.runs.report.facts import command
    from strop.runs.report.sweep import write_sweep
    from strop.runs.run import Run
    from strop.training.sweep.sweep import Sweep

    if resume is None:
        opened = Sweep.new(folder or _free_folder(), over, settings, budget=budget, most=most)
    elif settings or over:
        names = ", ".join([*settings, *over])
        raise ConfigError(f"a resumed sweep keeps its settings and ranges; leave out {names}")
    else:
        opened = Sweep(resume)
        opened.until(budget, most)
    finished = opened.run(lambda trial: announce(dataclasses.asdict(trial)))
    trials, best = [dataclasses.asdict(trial) for trial in opened.trials()], opened.best()
    page = write_sweep(opened.folder, trials, None if best is None else best.number, opened.by)
    return {
        "sweep": str(opened.folder),
        "page": str(page),
        "finished": finished,
        "metric": opened.by.key,
        "trials": trials,
        "best": None if best is None else dataclasses.asdict(best),
        "command": None if best is None else command(Run(Path(best.run)).record, best.run),
        "seconds": round(time.perf_counter() - started, 1),
    }


def _free_folder() -> Path:
    number = 1
    while (path := Path("sweeps") / f"sweep-{number}").exists():
        number += 1
    return path
