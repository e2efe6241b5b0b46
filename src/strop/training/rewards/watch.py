"""What goes wrong in training on rewards, named while it happens, and answers of each step in a file."""

import json
import logging
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from strop.core.files import writing
from strop.training.rewards.guarded import GuardedReward

logger = logging.getLogger("strop")

FILE = "drawn_answers.jsonl"
"""In the folder of a run: the answer that earned most in a step, and the one that earned least."""
STEPS = 10
"""Steps whose mean is compared with that of as many at the beginning."""

_NAMES = {
    "equal": "frac_reward_zero_std",
    "cut": "completions/clipped_ratio",
    "length": "completions/mean_length",
    "entropy": "entropy",
    "kl": "kl",
}
_SIGNS: dict[str, tuple[str, Callable[[float, float], bool], str]] = {
    "no difference": (
        "equal",
        lambda first, last: last > 0.9,
        "of {last:.0%} of the prompts all answers earn the same, so that little is learned: change the "
        "reward or the prompts",
    ),
    "length": (
        "length",
        lambda first, last: last > 2 * first or last < first / 2,
        "answers have {last:.0f} tokens on average, and had {first:.0f}: see whether the reward is of "
        "their length",
    ),
    "cut": (
        "cut",
        lambda first, last: last > 0.9 and last > first + 0.2,
        "{last:.0%} of the answers no longer end within max_completion_length",
    ),
    "collapse": (
        "entropy",
        lambda first, last: last < first / 10,
        "the entropy of a token fell from {first:.3g} to {last:.3g}, so that all answers become one: a "
        "lower learning_rate, or beta above 0, holds it",
    ),
    "divergence": (
        "kl",
        lambda first, last: last > 1,
        "the model is {last:.2g} nats a token from the first one: a lower learning_rate, or a higher "
        "beta, holds it",
    ),
}
"""Sign -> the number it is seen in, whether it is there, by means at first and at last, and a sentence."""


class RewardWatch(TrainerCallback):
    """Warns once of each sign of a run that goes wrong, and writes answers of each step.

    Args:
        rewards: of the run, whose last calls have the answers.
        folder: of the run.
    """

    def __init__(self, rewards: Sequence[GuardedReward], folder: Path) -> None:
        self._rewards = rewards
        self._file = folder / FILE
        self._values: dict[str, list[float]] = defaultdict(list)
        self._warned: set[str] = set()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove answers of steps that are repeated."""
        if self._file.is_file():
            lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
            past = [line for line in lines if json.loads(line)["step"] <= state.global_step]
            self._file.write_text("".join(past), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Compare the last steps with the first ones, and write two answers of this one."""
        if "loss" not in logs or "reward" not in logs:
            return
        for name, key in _NAMES.items():
            if logs.get(key) is not None:
                self._values[name].append(float(logs[key]))
        for sign, (name, shows, sentence) in _SIGNS.items():
            values = self._values[name]
            if sign in self._warned or len(values) < 2 * STEPS:
                continue
            first, last = statistics.fmean(values[:STEPS]), statistics.fmean(values[-STEPS:])
            if shows(first, last):
                self._warned.add(sign)
                text = sentence.format(first=first, last=last)
                logger.warning(
                    "in steps %d to %d %s", state.global_step - STEPS + 1, state.global_step, text
                )
        self._write(state.global_step)

    def _write(self, step: int) -> None:
        """Append the answers that earned most and least."""
        latest = [reward.latest for reward in self._rewards]
        totals = [
            sum(r.weight * (value or 0.0) for r, value in zip(self._rewards, values, strict=True))
            for values in zip(*(call.values for call in latest), strict=True)
        ]
        if not totals:
            return
        places = (totals.index(max(totals)), totals.index(min(totals)))
        with writing(self._file), self._file.open("a", encoding="utf-8") as file:
            for place in places:
                written = {
                    "step": step,
                    "line": latest[0].lines[place],
                    "reward": totals[place],
                    "answer": latest[0].answers[place],
                }
                file.write(json.dumps(written, ensure_ascii=False) + "\n")
