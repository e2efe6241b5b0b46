"""Callbacks that log a run, keep its checkpoints, and show its progress."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from strop.core.errors import DivergedError
from strop.core.files import writing, written_whole
from strop.core.progress import Pace, duration
from strop.core.progress import Progress as Report
from strop.runs import checkpoints
from strop.runs.loss_curve import RunningMean
from strop.runs.outcome import outcome
from strop.runs.run import Run
from strop.training import memory
from strop.training.interrupt import Interrupt


class RunLog(TrainerCallback):
    """Writes log.jsonl: one line a step, one line a loss on the held-out rows."""

    def __init__(self, run: Run, step: int) -> None:
        """Continue after optimizer step `step`: later lines of an earlier attempt are removed.

        Before the first step the held-out loss is measured again, so that no line stays for 0.
        """
        earlier = [line for line in run.log if line["step"] <= step] if step else []
        trained = [line for line in earlier if "loss" in line]
        self._earlier_seconds = trained[-1]["seconds"] if trained else 0.0
        self._earlier_tokens = trained[-1]["tokens"] if trained else 0
        self._tokens = 0
        self._started = time.monotonic()
        self._earlier = earlier
        self._run = run
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
        """Remove the lines of steps that are repeated, and start the clock."""
        if state.is_world_process_zero:
            with written_whole(self.path) as scratch:
                scratch.write_text("".join(map(_line, self._earlier)), encoding="utf-8")
        self._started = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Append a line.

        Raises:
            DivergedError: the loss is no longer a number.
            UnsupportedError: the disk is full.
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
                **_preferences(logs),
            }
            self._append(line, state)
            if not math.isfinite(logs["loss"]):
                raise DivergedError(outcome([line], self._run.record).diverged)
        elif "eval_loss" in logs:
            line = {"step": state.global_step, "held_out_loss": logs["eval_loss"]}
            line |= {f"held_out_{name}": x for name, x in _preferences(logs, "eval_").items()}
            self._append(line, state)

    def _append(self, line: dict[str, Any], state: Any) -> None:
        if not state.is_world_process_zero:
            return
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(_line(line))


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


class StepProgress(TrainerCallback):
    """Reports each step to a function."""

    def __init__(self, progress: Report) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the step."""
        self._progress("training", state.global_step, state.max_steps)


class _Facts(TrainerCallback):
    """What a bar and lines say of a step: mean loss, held-out loss, speed, memory."""

    def __init__(self) -> None:
        self._mean = RunningMean()
        self._eval_loss = ""
        self._recent: list[tuple[float, int]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._recent = [(time.monotonic(), 0)]

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Take the numbers of a step, or a held-out loss."""
        if "eval_loss" in logs:
            self._eval_loss = f"held-out loss {logs['eval_loss']:.3f} at {state.global_step}  "
        elif "loss" in logs:
            mean = self._mean.update(logs["loss"])
            self._recent = [*self._recent[-20:], (time.monotonic(), logs["num_tokens"])]
            (t0, n0), (t1, n1) = self._recent[0], self._recent[-1]
            facts = (
                f"mean loss {mean:.3f}  {self._eval_loss}"
                f"{(n1 - n0) / max(t1 - t0, 1e-9):,.0f} tokens/s  {memory.used() / 1e9:.1f} GB"
            )
            self.show(state, facts)

    def show(self, state: Any, facts: str) -> None:
        """Show the facts of a step."""
        raise NotImplementedError


class ProgressBar(_Facts):
    """A progress bar on a terminal: mean loss, held-out loss, tokens a second, memory, time left."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._bar = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
        )
        self._task = self._bar.add_task("", facts="", start=False)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the bar."""
        super().on_train_begin(args, state, control, **kwargs)
        self._bar.update(self._task, total=state.max_steps, completed=state.global_step)
        self._bar.start_task(self._task)
        self._bar.start()

    def show(self, state: Any, facts: str) -> None:
        """Update the bar."""
        self._bar.update(self._task, completed=state.global_step, facts=facts)

    def close(self) -> None:
        """Remove the bar from the terminal; may be called twice."""
        self._bar.stop()


class StepLines(_Facts):
    """Lines where there is no terminal: each tenth of the steps, and as often as `Pace` says."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._pace = Pace()
        self._first: tuple[int, float] | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remember when the first step began: what came before says nothing of the time left."""
        if self._first is None:
            self._first = state.global_step, time.monotonic()

    def show(self, state: Any, facts: str) -> None:
        """Print a line, if one is due."""
        step, total = state.global_step, state.max_steps
        tenth = max(1, math.ceil(total / 10))
        assert self._first is not None, "a step is logged after it began"
        begun, since = self._first
        if not (self._pace.due() or step == begun + 1 or step % tenth == 0 or step == total):
            return
        left = (total - step) * (time.monotonic() - since) / max(1, step - begun)
        after = f"  about {duration(left)} left" if step < total else ""
        self._console.print(
            f"step {step:,} of {total:,}  {facts}{after}", soft_wrap=True, highlight=False
        )


def _preferences(logs: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return how far chosen answers lead rejected ones, where a run learns from pairs.

    The margin is the mean of beta (log p / p_0 of the chosen - log p / p_0 of the rejected answer),
    the accuracy the share of pairs in which it is above 0.
    """
    names = {"reward_margin": "rewards/margins", "reward_accuracy": "rewards/accuracies"}
    return {name: logs[prefix + of] for name, of in names.items() if prefix + of in logs}


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values) + "\n"
