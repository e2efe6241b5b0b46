"""TRL's trainers as every mode builds them, in strop's environment and in those of others.

Whatever must be imported before TRL is imported before this module.
"""

import importlib.metadata
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clock
import datasets
import torch
import transformers
import trl
from modes import MODES, Mode
from trl import DPOTrainer, GRPOTrainer, SFTTrainer

LIBRARIES = ("torch", "transformers", "trl", "peft", "unsloth")
Build = Callable[[Path, dict[str, Any], Mode, dict[str, Any]], Any]
"""Returns a trainer of a model's folder for a workload, in a mode, with the settings all modes share."""


class Clock(transformers.TrainerCallback):
    """Notes when each optimizer step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.ends = [clock.now()]

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Note the end of a step, on a card once it is done."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(clock.now())

    def seconds(self) -> list[float]:
        """Return how long each step took."""
        return [b - a for a, b in zip(self.ends, self.ends[1:], strict=False)]


def peak_rss() -> int:
    """Return the largest resident size of this process so far, in bytes; the parent's does not count."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def common_settings(workload: dict[str, Any], mode: Mode, folder: str) -> dict[str, Any]:
    """Return the settings that all of TRL's trainers share."""
    batch = mode.batch or workload["rows_per_step"]
    checkpointing = (
        {} if mode.checkpointing is None else {"gradient_checkpointing": mode.checkpointing}
    )
    return checkpointing | {
        "output_dir": folder,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": workload["rows_per_step"] // batch,
        "max_steps": workload["steps"],
        "learning_rate": 2e-4 if mode.adapter else 2e-5,
        "bf16": mode.dtype == "bfloat16",
        "use_cpu": True,
        "seed": 0,
        "data_seed": 0,
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def build(workload: dict[str, Any], settings: dict[str, Any], **parts: Any) -> Any:
    """Build the trainer that the workload names."""
    rows = datasets.Dataset.from_list(workload["rows"])
    if workload["trainer"] == "sft":
        args = trl.SFTConfig(**settings, max_length=8192)
        return SFTTrainer(args=args, train_dataset=rows, **parts)
    if workload["trainer"] == "dpo":
        args = trl.DPOConfig(**settings)
        return DPOTrainer(args=args, train_dataset=rows, **parts)
    given = {row["prompt"]: row for row in workload["rows"]}
    settings |= {"num_generations": 8, "max_completion_length": 128, "shuffle_dataset": False}
    return GRPOTrainer(
        args=trl.GRPOConfig(**settings),
        train_dataset=rows.select_columns(["prompt"]),
        reward_funcs=share_of_spaces,
        rollout_func=lambda prompts, trainer: rollouts(given, prompts),
        **parts,
    )


def rollouts(given: dict[str, dict[str, Any]], prompts: list[str]) -> dict[str, Any]:
    """Return the answers that are given, in place of sampling: only the loss step is measured."""
    seen: dict[str, int] = dict.fromkeys(given, 0)
    answers = []
    for prompt in prompts:
        answers.append(given[prompt]["answers"][seen[prompt] % 8])
        seen[prompt] += 1
    ids = [given[prompt]["prompt_ids"] for prompt in prompts]
    return {"prompt_ids": ids, "completion_ids": answers, "logprobs": None}


def share_of_spaces(completions: list[str], **columns: Any) -> list[float]:
    """Reward short words; any reward that differs between answers serves."""
    return [text.count(" ") / max(1, len(text)) for text in completions]


def train(rows: Path, model_folder: Path, mode_name: str, built: Build) -> dict[str, Any]:
    """Train as a mode says and return what it took and what came out."""
    workload, mode, watch = json.loads(rows.read_text()), MODES[mode_name], Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = built(model_folder, workload, mode, common_settings(workload, mode, folder))
        trainer.add_callback(watch)
        before = peak_rss()
        trainer.train()
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "mode": mode_name,
        "seconds": watch.seconds(),
        "loss": [entry["loss"] for entry in history],
        "grad_norm": [entry["grad_norm"] for entry in history],
        "peak_rss": peak_rss(),
        "peak_rss_before_training": before,
    }


def versions() -> dict[str, str]:
    """Return the versions of what trains here."""
    installed = {d.name: d.version for d in importlib.metadata.distributions()}
    return {name: installed[name] for name in LIBRARIES if name in installed}


def answer(argv: list[str], measure: Callable[[Path, Path, str], dict[str, Any]]) -> str:
    """Return the measurement that a worker's arguments ask for, as a line of JSON."""
    mode = argv[-1]
    if mode == "imports":
        return json.dumps({"mode": mode, "peak_rss": peak_rss(), "versions": versions()})
    return json.dumps(measure(Path(argv[1]), Path(argv[2]), mode))
