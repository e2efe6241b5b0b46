"""Trainings of a probe: the run's trainer takes some steps with each rate, and is as before after it."""

import contextlib
import dataclasses
import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from transformers import DefaultFlowCallback, TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from strop.planning.problems.methods import IMITATING
from strop.planning.settings import Settings
from strop.runs.run import Run
from strop.training.interrupt import Interrupt
from strop.training.probe.decision import RATES, Losses, is_hopeless, probe_steps, search
from strop.training.trainer import RunTrainer

_CHANGED = (
    "learning_rate",
    "max_steps",
    "warmup_steps",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "eval_strategy",
    "eval_on_start",
    "save_strategy",
)
"""Arguments of the trainer that a probe changes for its time."""


def planned_probe(settings: Settings, explicit: Mapping[str, Any], total: int) -> dict[str, Any]:
    """Return what run.json has of a probe before it is made; nothing where the run has none.

    Args:
        settings: of a new run.
        explicit: those that the caller set; a learning rate among them is not probed unless told so.
        total: steps of the run.
    """
    off = settings.probe is None and "learning_rate" in explicit
    if settings.probe is False or off or settings.method not in IMITATING:
        return {}
    steps = probe_steps(total, forced=settings.probe is True)
    return {"probe": {"steps": steps}} if steps else {}


def probe(
    run: Run, trainer: RunTrainer, interrupt: Interrupt, announce: Callable[[str], None]
) -> bool:
    """Make the probe that a run has planned and not yet made, and take the learning rate it chooses.

    Returns False if it was interrupted; then the resumed run begins with the probe.

    Args:
        run: whose record says so, and gets the result.
        trainer: about to train, accelerated; adapter and random state are afterwards as before.
        interrupt: ends the probe, which a resumed run makes anew.
        announce: takes sentences.
    """
    planned = run.record.get("probe")
    if planned is None or "chosen" in planned:
        return True
    rate, steps = float(trainer.args.learning_rate), int(planned["steps"])
    announce(f"probe   up to {RATES} learning rates, {steps:,} steps each, from one start")
    with _unchanged(trainer):
        result = search(
            lambda candidate, than: _losses(trainer, candidate, steps, than, interrupt), rate, steps
        )
    if interrupt.requested:
        return False
    settings = {**run.settings, "learning_rate": result.chosen}
    run.update(probe=dataclasses.asdict(result), settings=settings)
    trainer.args.learning_rate = result.chosen
    announce(f"probe   {result.sentence}")
    return True


class _Race(TrainerCallback):
    """Notes the loss of each step, and stops where it is surely worse than another's."""

    def __init__(self, than: Losses, interrupt: Interrupt) -> None:
        self.losses: list[float] = []
        self._than = than
        self._interrupt = interrupt

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Take the loss of a step."""
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))
            worse = bool(self._than) and is_hopeless(self.losses, self._than)
            if worse or not math.isfinite(self.losses[-1]):
                control.should_training_stop = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop on an interrupt."""
        if self._interrupt.requested:
            control.should_training_stop = True


def _losses(
    trainer: RunTrainer, rate: float, steps: int, than: Losses, interrupt: Interrupt
) -> list[float]:
    """Return the loss of each step of a training with a constant rate, from the adapter's start."""
    if interrupt.requested:
        return []
    race = _Race(than, interrupt)
    start = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.callback_handler.callbacks = [DefaultFlowCallback(), race]
    trainer.args.learning_rate, trainer.args.max_steps = rate, steps
    trainer.args.warmup_steps = max(1, steps // 10)
    with _random_state():
        trainer.train()
    trainer.optimizer = trainer.lr_scheduler = None
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if name in start:
                parameter.copy_(start[name])
                parameter.grad = None
    return race.losses


@contextlib.contextmanager
def _unchanged(trainer: RunTrainer) -> Iterator[None]:
    """Leave arguments, callbacks and counters of a trainer after the block as they were before."""
    args, callbacks = trainer.args, trainer.callback_handler.callbacks
    state, control = trainer.state, trainer.control
    before = {name: getattr(args, name) for name in _CHANGED}
    args.lr_scheduler_type, args.lr_scheduler_kwargs = "constant_with_warmup", None
    args.eval_strategy, args.eval_on_start = IntervalStrategy.NO, False
    args.save_strategy = SaveStrategy.NO
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(args, name, value)
        trainer.callback_handler.callbacks = callbacks
        trainer.state, trainer.control = state, control
        trainer.reset_counters()


@contextlib.contextmanager
def _random_state() -> Iterator[None]:
    """Leave every generator after the block as it was before."""
    python, array = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
