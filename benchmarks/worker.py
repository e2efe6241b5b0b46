"""One measurement in a process of its own: build a trainer, train, print one line of JSON.

Run as `python benchmarks/worker.py ROWS.json MODEL_FOLDER MODE`; the mode `imports` measures what
importing the libraries alone takes.
"""

import json
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import clock
import datasets
import peft
import torch
import transformers
import trl
from modes import MODES, RANK, Mode
from trl import DPOTrainer, GRPOTrainer, SFTTrainer

import strop


class Clock(transformers.TrainerCallback):
    """Notes when each optimizer step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.ends = [clock.now()]

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Note the end of a step."""
        self.ends.append(clock.now())

    def seconds(self) -> list[float]:
        """Return how long each step took."""
        return [b - a for a, b in zip(self.ends, self.ends[1:], strict=False)]


def peak_rss() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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
        "learning_rate": 2e-4,
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


def opened(folder: Path, mode: Mode) -> tuple[Any, Any]:
    """Return the model as the mode opens it, and its tokenizer."""
    dtype = getattr(torch, mode.dtype)
    if mode.weights == "strop":
        return strop.load(folder, dtype=dtype)
    config = transformers.AutoConfig.from_pretrained(folder)
    stored = getattr(config, "quantization_config", None)
    if stored is not None:
        stored["bnb_4bit_compute_dtype"] = mode.dtype
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=dtype)
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def compute_in_float32(model: Any) -> None:
    """Let a checkpoint of bitsandbytes compute in float32 throughout.

    transformers leaves what is not quantised in the format of the file, whatever is asked for,
    bitsandbytes rounds dequantised weights to the format of the model they were made from, and TRL
    casts the adapters of a quantised model to bfloat16: call it when the trainer is built.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.float()
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            state.dtype = torch.float32


def stop_sharing(trainer: Any) -> None:
    """Let an accelerated trainer compute a prefix anew for each row that begins with it."""
    watches = (c for c in trainer.callback_handler.callbacks if hasattr(c, "compact"))
    backbone = next(watches).compact.backbone
    body = {"__slots__": (), "shares_prefixes": lambda self: False}
    backbone.__class__ = type("Unshared", (type(backbone),), body)


def measure(rows: Path, model_folder: Path, mode_name: str) -> dict[str, Any]:
    """Train as the mode says and return what it took and what came out."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    workload = json.loads(rows.read_text())
    mode = MODES[mode_name]
    model, tokenizer = opened(model_folder, mode)
    adapter = peft.LoraConfig(
        r=RANK,
        lora_alpha=RANK,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    watch = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(
            workload,
            common_settings(workload, mode, folder),
            model=model,
            processing_class=tokenizer,
            peft_config=adapter,
            callbacks=[watch],
        )
        if mode.weights != "strop" and mode.dtype == "float32":
            compute_in_float32(trainer.model)
        if mode.accelerate is not None:
            strop.accelerate(trainer, **mode.accelerate)
            if not mode.share:
                stop_sharing(trainer)
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


if __name__ == "__main__":
    mode = sys.argv[-1]
    result = {"mode": mode, "peak_rss": peak_rss()}
    if mode != "imports":
        result = measure(Path(sys.argv[1]), Path(sys.argv[2]), mode)
    print(json.dumps(result))
