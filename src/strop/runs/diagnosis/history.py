"""What a training logged, under the names of log.jsonl, whatever trained."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strop.core.errors import ConfigError
from strop.core.files import read_json
from strop.runs.log import LOG
from strop.runs.run import Run

Line = Mapping[str, Any]

TRAINER_NAMES = {
    "eval_loss": "held_out_loss",
    "num_tokens": "tokens",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "reward_accuracy",
    "completions/clipped_ratio": "cut_answers",
}
"""Names of TRL's logs, where log.jsonl has others."""
STATE = "trainer_state.json"


@dataclass(frozen=True, slots=True)
class History:
    """Lines that a training logged, and what is known of its plan.

    A line has `step` and some of `loss`, `grad_norm`, `learning_rate`, `held_out_loss`, `tokens`,
    `seconds`, `memory` and `disk` (bytes), `reward`, `reward_std`, `reward_margin`, `cut_answers`.
    """

    lines: Sequence[Line]
    planned_steps: int = 0
    """Steps of the whole run; 0 if that is not known."""
    planned_memory: float = 0.0
    """Bytes at the peak, as the plan has it; 0 if there is none."""
    keeps_best: bool = False
    """The adapter of the best evaluation is the one that stays."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of a run of strop; empty for other trainings."""

    def points(self, name: str) -> list[tuple[int, float]]:
        """Return steps and values of an entry, those that are no finite numbers left out."""
        return [
            (line["step"], float(line[name]))
            for line in self.lines
            if line.get(name) is not None and math.isfinite(line[name])
        ]

    def values(self, name: str) -> list[float]:
        """Return the finite values of an entry."""
        return [value for _, value in self.points(name)]

    @property
    def steps(self) -> int:
        """Optimizer steps taken."""
        return max((line["step"] for line in self.lines), default=0)

    @property
    def share_done(self) -> float:
        """Share of the planned steps that were taken; 1 if the plan is not known."""
        return min(1.0, self.steps / self.planned_steps) if self.planned_steps else 1.0

    @property
    def has_rewards(self) -> bool:
        """True for training by rewards, whose loss does not say how well the model does."""
        return any("reward" in line for line in self.lines)


def renamed(logs: Mapping[str, Any], step: int) -> Line:
    """Return what a trainer of transformers logged at a step, under the names of log.jsonl."""
    line = {TRAINER_NAMES.get(name, name): value for name, value in logs.items()}
    return {name: x for name, x in line.items() if isinstance(x, int | float)} | {"step": step}


def of_run(run: Run, lines: Iterable[Line] | None = None) -> History:
    """Return what a run of strop logged.

    Args:
        run: the run.
        lines: of its log; None reads them.
    """
    from strop.planning.evaluations import best_model
    from strop.planning.settings import Settings

    record = run.record
    return History(
        list(run.log if lines is None else lines),
        planned_steps=int(record.get("steps") or 0),
        planned_memory=(record.get("planned") or {}).get("peak") or 0.0,
        keeps_best=best_model(Settings.read(record["settings"])) is not None,
        settings=record["settings"],
    )


def open_history(path: str | Path) -> History:
    """Return what was logged by a run of strop, or by a trainer of transformers or TRL.

    Args:
        path: a run folder, a folder with checkpoints, a checkpoint, or a `trainer_state.json`.

    Raises:
        ConfigError: there is neither.
        DataError: a file is damaged.
    """
    path = Path(path)
    if Run.is_at(path):
        return of_run(Run.open(path))
    if path.name == LOG and Run.is_at(path.parent):
        return of_run(Run.open(path.parent))
    return _of_trainer(read_json(_state_file(path)))


def _state_file(path: Path) -> Path:
    """Return the newest trainer_state.json of a folder."""
    if path.is_file():
        return path
    states = [*path.glob(STATE), *path.glob(f"checkpoint-*/{STATE}")]
    if not states:
        where = "has neither run.json" if path.is_dir() else "is no folder with run.json"
        raise ConfigError(
            f"{path} {where} nor {STATE}; give a run folder, or the output_dir of a TRL trainer "
            "that saved a checkpoint"
        )
    return max(states, key=lambda file: int(read_json(file).get("global_step", 0)))


def _of_trainer(state: Mapping[str, Any]) -> History:
    history = [line for line in state.get("log_history", ()) if "step" in line]
    return History(
        [renamed(line, line["step"]) for line in history if "train_runtime" not in line],
        planned_steps=int(state.get("max_steps") or 0),
        keeps_best=bool(state.get("best_model_checkpoint")),
    )
