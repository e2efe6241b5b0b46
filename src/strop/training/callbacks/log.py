"""log.jsonl: one line a step, one line a loss on the held-out rows."""

import json
import math
import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from strop.core.errors import DivergedError
from strop.core.files import writing, written_whole
from strop.core.system.disk import free_bytes
from strop.metrics.names import METRICS
from strop.runs.outcome import outcome
from strop.runs.run import Run
from strop.training import memory

COST = ("metrics_rows", "metrics_seconds")
"""What is logged of measuring held-out rows, beside the measures."""
_NOISE = ("gradient_signal", "gradient_noise")


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
        self._earlier_metrics = sum(line.get("metrics_seconds", 0.0) for line in earlier)
        self._tokens = 0
        self._metrics_seconds = 0.0
        self._started = time.monotonic()
        self._earlier = earlier
        self._run = run
        self.path = run.log_file

    @property
    def seconds(self) -> float:
        """Time spent training, earlier attempts included."""
        return self._earlier_seconds + time.monotonic() - self._started

    @property
    def metrics_seconds(self) -> float:
        """Time spent on measures of held-out rows, earlier attempts included."""
        return float(self._earlier_metrics + self._metrics_seconds)

    @property
    def tokens(self) -> int:
        """Tokens trained on, earlier attempts included."""
        return int(self._earlier_tokens + self._tokens)

    def measured(self) -> dict[str, Any]:
        """Return what the training took, earlier attempts included, for run.json."""
        metrics = (
            {"metrics_seconds": round(self.metrics_seconds, 3)} if self.metrics_seconds else {}
        )
        peaks = memory.peak()
        if self._earlier:  # of a run that is resumed
            before = (self._run.record.get("measured") or {}).get("peak_memory", {})
            peaks = {kind: max(peak, before.get(kind, 0)) for kind, peak in peaks.items()}
        return {
            "seconds": round(self.seconds, 3),
            "tokens": self.tokens,
            "tokens_per_second": round(self.tokens / max(self.seconds, 1e-9), 1),
            "peak_memory": peaks,
            **metrics,
        }

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
                "memory": logs["memory"],
                "disk": free_bytes(self._run.path),
                **({"router_loss": logs["aux_loss"]} if "aux_loss" in logs else {}),
                **{name: logs[name] for name in _NOISE if name in logs},
                **_preferences(logs),
                **_rewards(logs),
            }
            self._append(line, state)
            if not math.isfinite(logs["loss"]):
                raise DivergedError(outcome([line], self._run.record).diverged)
        elif "eval_loss" in logs:
            line = {"step": state.global_step, "held_out_loss": logs["eval_loss"]}
            line |= {f"held_out_{name}": x for name, x in _preferences(logs, "eval_").items()}
            line |= {f"held_out_{name}": x for name, x in _rewards(logs, "eval_").items()}
            line |= measures(logs)
            line |= {name: logs[f"eval_{name}"] for name in COST if f"eval_{name}" in logs}
            self._metrics_seconds += line.get("metrics_seconds", 0.0)
            self._append(line, state)

    def _append(self, line: dict[str, Any], state: Any) -> None:
        if not state.is_world_process_zero:
            return
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(_line(line))


def _preferences(logs: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return how far chosen answers lead rejected ones, where a run learns from pairs.

    The margin is the mean of beta (log p / p_0 of the chosen - log p / p_0 of the rejected answer),
    the accuracy the share of pairs in which it is above 0.
    """
    names = {"reward_margin": "rewards/margins", "reward_accuracy": "rewards/accuracies"}
    return {name: logs[prefix + of] for name, of in names.items() if prefix + of in logs}


_REWARDS = {
    "reward": "reward",
    "reward_std": "reward_std",
    "equal_groups": "frac_reward_zero_std",
    "answer_length": "completions/mean_length",
    "cut_answers": "completions/clipped_ratio",
    "kl": "kl",
    "entropy": "entropy",
}


def _rewards(logs: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return what sampled answers earned, where a run learns from rewards.

    `equal_groups` is the share of prompts whose answers all earned the same, `cut_answers` that of
    answers that did not end by themselves; the mean of each of several rewards is under `reward.NAME`.
    """
    if f"{prefix}reward" not in logs:
        return {}
    values = {name: logs.get(prefix + of) for name, of in _REWARDS.items()}
    each = {
        f"reward.{key.removeprefix(f'{prefix}rewards/').removesuffix('/mean')}": value
        for key, value in logs.items()
        if key.startswith(f"{prefix}rewards/") and key.endswith("/mean")
    }
    rewards = values | (each if len(each) > 1 else {})
    return {name: value for name, value in rewards.items() if value is not None}


def measures(logs: Mapping[str, Any]) -> dict[str, float]:
    """Return the measures of held-out rows by their names in log.jsonl, such as `eval_accuracy`."""
    names = (f"eval_{name}" for name in METRICS if name != "loss")
    return {name: logs[name] for name in names if name in logs}


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values) + "\n"
