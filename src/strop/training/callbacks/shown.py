"""Progress of a run: a bar, lines where there is no terminal, or calls of a function."""

import math
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from strop.core.progress import Pace, duration
from strop.core.progress import Progress as Report
from strop.runs.log import read_drawn_answers
from strop.runs.loss_curve import RunningMean
from strop.training import memory
from strop.training.callbacks.log import measures

_SHOWN = 160
"""Characters of an answer on a line."""


class StepProgress(TrainerCallback):
    """Reports each step to a function."""

    def __init__(self, progress: Report) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the step."""
        self._progress("training", state.global_step, state.max_steps)


class _Facts(TrainerCallback):
    """What a bar and lines say of a step: mean loss, held-out loss, speed, memory."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name, self._value = "loss", math.nan
        self._mean = RunningMean()
        self._eval_loss = ""
        self._recent: list[tuple[float, int]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._recent = [(time.monotonic(), 0)]

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Take the numbers of a step, or a held-out loss."""
        if "eval_loss" in logs:
            values = measures(logs)
            shown = [f"{name.removeprefix('eval_')} {x:.3f}" for name, x in values.items()]
            name = "reward" if "eval_reward" in logs else "loss"
            whole = ", ".join([f"held-out {name} {logs[f'eval_{name}']:.3f}", *shown])
            self._eval_loss = f"{', '.join(whole.split(', ')[:2])} at {state.global_step}  "
            if shown:
                self.announce(f"step {state.global_step:,}: {whole}")
        elif "loss" in logs:
            if "reward" in logs:
                self._name = "reward"
            if self._name in logs:  # a step on answers of the step before draws none
                self._value = self._mean.update(logs[self._name])
            self._recent = [*self._recent[-20:], (time.monotonic(), logs["num_tokens"])]
            (t0, n0), (t1, n1) = self._recent[0], self._recent[-1]
            facts = (
                f"mean {self._name} {self._value:.3f}  {self._eval_loss}"
                f"{(n1 - n0) / max(t1 - t0, 1e-9):,.0f} tokens/s  {memory.used() / 1e9:.1f} GB"
            )
            self.show(state, facts)
            if (
                "reward" in logs
                and state.global_step % max(1, math.ceil(state.max_steps / 10)) == 0
            ):
                self._announce_answer(Path(args.output_dir).parent, state.global_step)

    def _announce_answer(self, folder: Path, step: int) -> None:
        """Print the best answer of a step with what it earned."""
        for line in read_drawn_answers(folder):
            if line["step"] == step:
                text = " ".join(line["answer"].split())
                text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
                where = f"step {step:,}, to line {line['line']}"
                self.announce(f"{where}, the best answer earned {line['reward']:.3g}: {text}")
                return

    def show(self, state: Any, facts: str) -> None:
        """Show the facts of a step."""
        raise NotImplementedError

    def announce(self, sentence: str) -> None:
        """Print a sentence on a line that stays."""
        self._console.print(sentence, soft_wrap=True, highlight=False, markup=False)


class ProgressBar(_Facts):
    """A progress bar on a terminal: mean loss, held-out loss, tokens a second, memory, time left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
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
        super().__init__(console)
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
