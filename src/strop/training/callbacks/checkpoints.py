"""Checkpoints of a run while it trains: sealed, deleted when no longer needed, the best one kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from strop.core.files import writing
from strop.planning.evaluations import best_model
from strop.planning.settings import Settings
from strop.runs import checkpoints
from strop.runs.run import Run
from strop.training.callbacks.log import COST
from strop.training.interrupt import Interrupt


class Checkpoints(TrainerCallback):
    """Seals checkpoints, deletes old ones, and stops the run on an interrupt or for want of a better one.

    Args:
        interrupt: decides when to stop.
        run: whose log decides which step is the best.
        evaluate: there are held-out rows to measure the loss on after the last step.
        settings: say which evaluation is the best, when to stop, and how many checkpoints stay.
    """

    def __init__(self, interrupt: Interrupt, run: Run, evaluate: bool, settings: Settings) -> None:
        self._interrupt = interrupt
        self._run = run
        self._evaluate = evaluate
        self._by = best_model(settings)
        self._limit = int(settings.trainer.get("save_total_limit") or checkpoints.LIMIT)

    def tidy(self) -> None:
        """Delete checkpoints that are no longer needed."""
        folder = self._run.checkpoints_folder
        there = checkpoints.whole(folder)
        chosen = self.best(checkpoints.step_of(there[-1])) if there else None
        checkpoints.tidy(folder, self._limit, chosen["step"] if chosen else None)

    def best(self, last: int | None = None) -> Mapping[str, Any] | None:
        """Return the log's line of the best evaluation up to step `last`, if the run keeps it."""
        return None if self._by is None else checkpoints.best(self._run.log, last, self._by)

    def best_facts(self) -> dict[str, Any] | None:
        """Return what run.json has of the best evaluation: its values, and by what it is the best."""
        line = self.best()
        if line is None or self._by is None:
            return None
        values = {name: line[name] for name in line if name not in COST}
        return values if self._by.metric == "loss" else {**values, "metric": self._by.metric}

    def stopped_early(self, step: int) -> bool:
        """Return True if the run ends after a step because no evaluation was better for long."""
        return self._by is not None and checkpoints.stopped_early(self._run.log, step, self._by)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save a checkpoint of the best model so far, and stop where none was better for long."""
        best = self.best()
        if best is not None and best["step"] == state.global_step:
            control.should_save = True
        if self.stopped_early(state.global_step):
            control.should_save = True
            control.should_training_stop = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the held-out loss after the last step; save and stop on an interrupt."""
        if state.global_step >= state.max_steps and self._evaluate:
            control.should_evaluate = True
        if self._interrupt.requested:
            control.should_save = True
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint just written as complete, then delete old ones."""
        if not state.is_world_process_zero:
            return
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        with writing(saved):
            checkpoints.save_logs(self._run.path, saved)
            checkpoints.seal(saved)
            self.tidy()
