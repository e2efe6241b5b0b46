"""Checkpoints of a run while it trains: sealed, deleted when no longer needed, saved on an interrupt."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from strop.core.files import writing
from strop.runs import checkpoints
from strop.runs.run import Run
from strop.training.interrupt import Interrupt


class Checkpoints(TrainerCallback):
    """Seals checkpoints, deletes old ones, and stops the run when it is interrupted.

    Args:
        interrupt: decides when to stop.
        run: whose log decides which step is the best.
        evaluate: there are held-out rows to measure the loss on after the last step.
        trainer: further arguments of the trainer; those about checkpoints are obeyed here.
    """

    def __init__(
        self, interrupt: Interrupt, run: Run, evaluate: bool, trainer: Mapping[str, Any]
    ) -> None:
        self._interrupt = interrupt
        self._run = run
        self._evaluate = evaluate
        self._keeps_best = bool(trainer.get("load_best_model_at_end"))
        self._limit = int(trainer.get("save_total_limit") or checkpoints.LIMIT)

    def tidy(self) -> None:
        """Delete checkpoints that are no longer needed."""
        folder = self._run.checkpoints_folder
        there = checkpoints.whole(folder)
        chosen = self.best(checkpoints.step_of(there[-1])) if there else None
        checkpoints.tidy(folder, self._limit, chosen["step"] if chosen else None)

    def best(self, last: int | None = None) -> Mapping[str, Any] | None:
        """Return the log's line of the lowest held-out loss up to step `last`, if the run keeps it."""
        return checkpoints.best(self._run.log, last) if self._keeps_best else None

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save a checkpoint of the best model so far."""
        best = self.best()
        if best is not None and best["step"] == state.global_step:
            control.should_save = True

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
            checkpoints.seal(saved)
            self.tidy()
