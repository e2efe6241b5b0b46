"""Answers that a run draws, of each step the one that earned most and the one that earned least."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from strop.core.files import writing, written_whole
from strop.runs.log import DRAWN_ANSWERS, read_drawn_answers
from strop.training.rewards.guarded import GuardedReward


class DrawnAnswers(TrainerCallback):
    """Writes answers of each step with what they earned.

    Args:
        rewards: of the run, whose last calls have the answers.
        folder: of the run.
    """

    def __init__(self, rewards: Sequence[GuardedReward], folder: Path) -> None:
        self._rewards = rewards
        self._file = folder / DRAWN_ANSWERS

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove answers of steps that are repeated."""
        drawn = read_drawn_answers(self._file.parent)
        if drawn:
            past = [answer for answer in drawn if answer["step"] <= state.global_step]
            with written_whole(self._file) as scratch:
                scratch.write_text("".join(map(_line, past)), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Write two answers of a step that drew some."""
        if "loss" in logs and "reward" in logs:
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
                file.write(_line(written))


def _line(answer: Mapping[str, Any]) -> str:
    return json.dumps(answer, ensure_ascii=False) + "\n"
