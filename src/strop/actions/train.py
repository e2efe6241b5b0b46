"""Training of a run, new or resumed."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
