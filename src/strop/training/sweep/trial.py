"""One trial of a sweep: an ordinary run, cut short if it is poor beside the others or time is up."""

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from strop.planning.evaluations import BestModel, best_model
from strop.planning.settings import Settings
from strop.runs import checkpoints
from strop.runs.run import Run
from strop.training.fine_tuning import fine_tune
from strop.training.opening import open_run

PRUNED, OUT_OF_TIME, FINISHED, DIVERGED, STOPPED = (
    "pruned",
    "out of time",
    "finished",
    "diverged",
    "stopped",
)
"""How a trial ends; a stopped one goes on when the sweep is resumed."""


class Pruning(TrainerCallback):
    """Reports each evaluation to optuna and stops the run when it says so, or at a deadline.

    Args:
        trial: of optuna.
        run: whose log has the evaluations.
        by: what tells the best.
        deadline: on the monotonic clock; None has none.
    """

    def __init__(self, trial: Any, run: Run, by: BestModel, deadline: float | None) -> None:
        self.ended = ""
        self._trial, self._run, self._by, self._deadline = trial, run, by, deadline

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the evaluation, and stop where the trials before were better by then."""
        step = state.global_step
        line = next((x for x in reversed(self._run.log) if self._by.key in x), None)
        if line is None or not step or step >= state.max_steps:
            return
        if step not in self._reported():  # a resumed run measures anew
            self._trial.report(line[self._by.key], step)
        if self._trial.should_prune():
            self._stop(PRUNED, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop at the deadline."""
        late = self._deadline is not None and time.monotonic() > self._deadline
        if late and state.global_step < state.max_steps:
            self._stop(OUT_OF_TIME, control)

    def _reported(self) -> Collection[int]:
        return self._trial.study.trials[self._trial.number].intermediate_values

    def _stop(self, why: str, control: Any) -> None:
        self.ended = why
        control.should_save = True
        control.should_training_stop = True


def criterion(settings: Settings) -> BestModel:
    """Return what tells the best trial: that of the settings, else the loss on held-out rows."""
    return best_model(settings) or checkpoints.LOWEST_LOSS


def value_of(run: Run) -> float | None:
    """Return by what a trial is judged: the evaluation whose adapter the run has; None without."""
    settings = Settings.read(run.settings)
    by = criterion(settings)
    lines = [x for x in run.log if by.key in x and x["step"]]
    if not lines:
        return None
    best = checkpoints.best(lines, None, by) if best_model(settings) is not None else lines[-1]
    return None if best is None else float(best[by.key])


def train_trial(trial: Any, given: dict[str, Any], folder: Path, deadline: float | None) -> str:
    """Train a trial, or go on with one that was stopped, and return how it ended.

    Args:
        trial: of optuna.
        given: the settings of its run.
        folder: of its run.
        deadline: on the monotonic clock; None has none.
    """
    resumed = Run.is_at(folder) and Run(folder).began
    if resumed and Run(folder).finished:
        return _ending(Run(folder), "")
    explicit = {} if resumed else {**given, "out": str(folder)}
    with open_run(explicit, folder if resumed else None) as opened:
        pruning = Pruning(trial, opened.run, criterion(opened.settings), deadline)
        run = fine_tune(opened, quiet=True, callbacks=[pruning])
    return _ending(run, pruning.ended)


def _ending(run: Run, ended: str) -> str:
    if ended:
        return ended
    if not run.finished:
        return STOPPED
    return DIVERGED if run.diverged else FINISHED
