"""Callbacks that record a run, keep its checkpoints whole, and show how it goes."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from strop.core.errors import UnsupportedError
from strop.core.files import written_whole
from strop.core.progress import Progress as Report
from strop.runs import checkpoints
from strop.runs.run import Run
from strop.training import memory
from strop.training.interrupt import Interrupt


class Record(TrainerCallback):
    """Writes log.jsonl: one line a step, one line a loss on the held-out rows."""

    def __init__(self, run: Run, step: int) -> None:
        """Go on after optimizer step `step`: later lines of an earlier attempt are taken out."""
        kept = [line for line in run.log if line["step"] <= step]
        trained = [line for line in kept if "loss" in line]
        self._earlier_seconds = trained[-1]["seconds"] if trained else 0.0
        self._earlier_tokens = trained[-1]["tokens"] if trained else 0
        self._tokens = 0
        self._started = time.monotonic()
        self._kept = kept
        self.path = run.log_file

    @property
    def seconds(self) -> float:
        """Time spent training, earlier attempts included."""
        return self._earlier_seconds + time.monotonic() - self._started

    @property
    def tokens(self) -> int:
        """Tokens trained on, earlier attempts included."""
        return int(self._earlier_tokens + self._tokens)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take out the lines of steps that are done again, and start the clock."""
        with checkpoints.saving(self.path), written_whole(self.path) as scratch:
            scratch.write_text("".join(map(_line, self._kept)), encoding="utf-8")
        self._started = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Append a line.

        Raises:
            UnsupportedError: the loss is no longer a number, or the disk is full.
        """
        if "loss" in logs:
            self._tokens = logs["num_tokens"]
            line = {
                "step": state.global_step,
                "epoch": logs["epoch"],
                "loss": logs["loss"],
                "grad_norm": logs.get("grad_norm"),
                "learning_rate": logs["learning_rate"],
                "accuracy": logs.get("mean_token_accuracy"),
                "tokens": self.tokens,
                "seconds": round(self.seconds, 3),
                "memory": memory.used(),
            }
            self._append(line)
            if not math.isfinite(logs["loss"]):
                raise UnsupportedError(
                    f"the loss is {logs['loss']} at step {state.global_step}; start again with a "
                    f"lower learning_rate than {args.learning_rate} or a longer warmup"
                )
        elif "eval_loss" in logs:
            self._append({"step": state.global_step, "held_out_loss": logs["eval_loss"]})

    def _append(self, line: dict[str, Any]) -> None:
        with checkpoints.saving(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(_line(line))


class Keep(TrainerCallback):
    """Seals checkpoints, deletes old ones, and stops the run when asked.

    Args:
        interrupt: says when to stop.
        run: whose log says which step is the best.
        evaluate: there are held-out rows to measure the loss on after the last step.
        trainer: further arguments of the trainer; those about checkpoints are served here.
    """

    def __init__(
        self, interrupt: Interrupt, run: Run, evaluate: bool, trainer: Mapping[str, Any]
    ) -> None:
        self._interrupt = interrupt
        self._run = run
        self._evaluate = evaluate
        self._keeps_best = bool(trainer.get("load_best_model_at_end"))
        self._limit = int(trainer.get("save_total_limit") or checkpoints.KEPT)

    def tidy(self) -> None:
        """Delete the checkpoints that nobody needs."""
        folder = self._run.checkpoints_folder
        there = checkpoints.whole(folder)
        chosen = self.best(checkpoints.step_of(there[-1])) if there else None
        checkpoints.tidy(folder, self._limit, chosen["step"] if chosen else None)

    def best(self, last: int | None = None) -> Mapping[str, Any] | None:
        """Return the log's line of the lowest held-out loss up to step `last`, where it is asked for."""
        return checkpoints.best(self._run.log, last) if self._keeps_best else None

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save a checkpoint of the best model so far."""
        found = self.best()
        if found is not None and found["step"] == state.global_step:
            control.should_save = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the held-out loss after the last step; save and stop when asked."""
        if state.global_step >= state.max_steps and self._evaluate:
            control.should_evaluate = True
        if self._interrupt.asked:
            control.should_save = True
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint just written as whole, then make room."""
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        with checkpoints.saving(saved):
            checkpoints.seal(saved)
            self.tidy()


class Steps(TrainerCallback):
    """Reports each step to a function."""

    def __init__(self, progress: Report) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the step."""
        self._progress("training", state.global_step, state.max_steps)


class Show(TrainerCallback):
    """A progress bar: loss, tokens a second, memory, time left."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
        )
        self._task = self._bar.add_task("", facts="", start=False)
        self._loss: float | None = None
        self._seen: list[tuple[float, int]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the bar."""
        self._bar.update(self._task, total=state.max_steps, completed=state.global_step)
        self._bar.start_task(self._task)
        self._bar.start()
        self._seen = [(time.monotonic(), 0)]

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Update the bar; its loss is smoothed over about ten steps."""
        if "loss" in logs:
            loss = logs["loss"]
            self._loss = loss if self._loss is None else 0.9 * self._loss + 0.1 * loss
            self._seen = [*self._seen[-20:], (time.monotonic(), logs["num_tokens"])]
            (t0, n0), (t1, n1) = self._seen[0], self._seen[-1]
            facts = (
                f"loss {self._loss:.3f}  {(n1 - n0) / max(t1 - t0, 1e-9):,.0f} tokens/s  "
                f"{memory.used() / 1e9:.1f} GB"
            )
            self._bar.update(self._task, completed=state.global_step, facts=facts)

    def close(self) -> None:
        """Leave the terminal as it was; may be called twice."""
        self._bar.stop()


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values) + "\n"
