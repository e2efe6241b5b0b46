"""Settings that follow from several keys of another tool's configuration."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strop.planning.problems.adapters import FULL_METHODS

Config = Mapping[str, Any]


@dataclass(slots=True)
class Composed:
    """Settings that keys gave together."""

    settings: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """Keys that are in them."""
    left: dict[str, str] = field(default_factory=dict)
    """Keys of values that have no counterpart, each with why."""

    def take(self, setting: str, value: Any, *keys: str) -> None:
        """Set a setting that follows from keys."""
        self.settings[setting] = value
        self.used.update(keys)


def batch(config: Config, composed: Composed) -> None:
    """Rows of a step: those computed at once times the parts of a step."""
    keys = ("micro_batch_size", "per_device_train_batch_size", "batch_size")
    at_once = next((key for key in keys if config.get(key)), None)
    parts = config.get("gradient_accumulation_steps")
    if at_once is None:
        return
    if at_once == "batch_size" and "base_model" in config:  # Axolotl's, of a whole step
        composed.take("batch_size", int(config[at_once]), at_once, "gradient_accumulation_steps")
        return
    times = int(str(parts)) if str(parts).isdigit() else 1
    composed.take(
        "batch_size", int(config[at_once]) * times, at_once, "gradient_accumulation_steps"
    )
    if parts is not None and not str(parts).isdigit():
        composed.left["gradient_accumulation_steps"] = (
            f"{parts!r} is no number; batch_size has one part"
        )


def bits(config: Config, composed: Composed) -> None:
    """Bits of the frozen weights."""
    keys = (
        *("load_in_4bit", "load_in_8bit", "adapter", "quantization_bit"),
        *("finetuning_type", "training_type"),
    )
    present = [key for key in keys if key in config]
    composed.used.update(present)
    if config.get("load_in_8bit") or config.get("quantization_bit") == 8:
        key = "load_in_8bit" if config.get("load_in_8bit") else "quantization_bit"
        composed.left[key] = "weights have 4, 16 or 32 bits: --bits 4 or --bits 16"
    kind = config.get("adapter") or config.get("finetuning_type") or config.get("training_type")
    four = config.get("load_in_4bit") or kind == "qlora" or config.get("quantization_bit") == 4
    composed.settings["bits"] = 4 if four else 16


METHODS = {
    "dpo": "dpo",
    "ipo": "ipo",
    "kto": "kto",
    "orpo": "orpo",
    "simpo": "simpo",
    "grpo": "grpo",
    "sft": "sft",
    "pt": "text",
    "rm": "reward",
    "sigmoid": "dpo",
}


def method(config: Config, composed: Composed) -> None:
    """Method of training."""
    key = "rl" if "rl" in config else "stage" if "stage" in config else None
    if key is None or config[key] in (None, False):
        return
    name = str(config.get("pref_loss") or config[key]) if config[key] == "dpo" else str(config[key])
    if config.get("dpo_loss_type") == "ipo":
        name = "ipo"
    if name in METHODS:
        composed.take("method", METHODS[name], key, "pref_loss", "dpo_loss_type")
    else:
        composed.left[key] = (
            f"{name} is none of strop's methods: {', '.join(sorted(set(METHODS.values())))}"
        )


def adapter(config: Config, composed: Composed) -> None:
    """Whether all weights are trained, which not every method does; called behind `method`."""
    keys = ("adapter", "finetuning_type", "training_type")
    kind = next((config[key] for key in keys if config.get(key)), None)
    if kind not in ("full", "freeze", "oft") and not (kind is None and "base_model" in config):
        return
    of_method = composed.settings.get("method", "sft")
    is_full = kind in (None, "full") and composed.settings["bits"] != 4
    if is_full and of_method in FULL_METHODS:
        composed.settings["adapter"] = "none"
        return
    why = f"; {of_method} trains an adapter" if is_full else ""
    composed.left[next((key for key in keys if key in config), "adapter")] = (
        f"{kind or 'every weight trained'}: strop trains adapters, or with --adapter none all weights but "
        f"those of --freeze{why}"
    )


SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant",
    "cosine_with_min_lr": "cosine",
}


def schedule(config: Config, composed: Composed) -> None:
    """Course of the learning rate."""
    key = "lr_scheduler" if "lr_scheduler" in config else "lr_scheduler_type"
    if (name := config.get(key)) is not None:
        if name in SCHEDULES:
            composed.take("schedule", SCHEDULES[name], key)
        else:
            composed.left[key] = f"{name} is none of {', '.join(dict.fromkeys(SCHEDULES.values()))}"
    if (share := config.get("warmup_ratio")) is not None:
        composed.take("warmup", float(share), "warmup_ratio")
    elif (steps := config.get("warmup_steps")) is not None:
        total = config.get("max_steps")
        if isinstance(total, int) and total > 0:
            composed.take("warmup", round(int(steps) / total, 4), "warmup_steps")
        elif not steps:
            composed.take("warmup", 0.0, "warmup_steps")
        else:
            composed.left["warmup_steps"] = (
                f"warmup is a share of all steps, and how many there are follows from the data: "
                f"{steps} steps are --warmup {steps}/STEPS; strop plan shows STEPS"
            )


def layers(config: Config, composed: Composed) -> None:
    """Layers that get an adapter."""
    keys = ("lora_target_modules", "lora_target", "target_modules")
    key = next((key for key in keys if config.get(key)), None)
    if config.get("lora_target_linear"):
        composed.take("target_modules", "all-linear", "lora_target_linear", *keys)
    elif key is not None:
        names = config[key]
        if isinstance(names, str) and "," in names:
            names = [name.strip() for name in names.split(",")]
        is_all = names in ("all", "all-linear", ["all"], ["all-linear"])
        composed.take(
            "target_modules", "all-linear" if is_all else names, key, "lora_target_linear"
        )


def rates(config: Config, composed: Composed) -> None:
    """Steps between evaluations and checkpoints, which other tools also give by epoch."""
    for key, setting in (("evals_per_epoch", "eval_every"), ("saves_per_epoch", "save_every")):
        if config.get(key):
            composed.left[key] = f"{setting} is a number of steps; without it " + (
                "after every epoch" if setting == "eval_every" else "about ten times a run"
            )
    if config.get("train_on_inputs") or config.get("train_on_prompt"):
        key = "train_on_inputs" if config.get("train_on_inputs") else "train_on_prompt"
        composed.left[key] = "only answers are learned; rows of `text` are learned whole"
    composed.used.update(
        ("train_on_inputs", "train_on_prompt", "train_on_completions", "mask_history")
    )
    if config.get("mask_history"):
        composed.settings["answers"] = "last"


def data_of_axolotl(config: Config, composed: Composed, folder: Path) -> None:
    """Files of `datasets`, with the names of their columns."""
    names: dict[str, str] = {}
    files: list[str] = []
    for key in ("datasets", "pretraining_dataset"):
        for entry in _entries(config.get(key)):
            composed.used.add(key)
            path = entry.get("data_files") or entry.get("path")
            files += _existing(path, key, composed, folder)
            for field_key, column in (
                ("field_messages", "messages"), ("field", "text"), ("field_instruction", "instruction"),
                ("field_output", "output"),
            ):  # fmt: skip
                if (other := entry.get(field_key)) and other not in (column, "conversations"):
                    names[other] = column
    _take_files(files, composed)
    if names:
        composed.settings["map"] = ",".join(f"{other}={column}" for other, column in names.items())


def data_of_llama_factory(config: Config, composed: Composed, folder: Path) -> None:
    """Files that dataset_info.json has under the names of `dataset`."""
    names = config.get("dataset")
    names = [n.strip() for n in names.split(",")] if isinstance(names, str) else names or []
    where = folder / str(config.get("dataset_dir") or "data")
    index = where / "dataset_info.json"
    known: dict[str, Any] = {}
    if index.is_file():
        known = json.loads(index.read_text(encoding="utf-8"))
    files: list[str] = []
    for name in names:
        composed.used.add("dataset")
        file = (known.get(name) or {}).get("file_name")
        if file and (where / file).is_file():
            files.append(str(where / file))
        else:
            files += _existing(name, "dataset", composed, folder)
    _take_files(files, composed)


def data_of_unsloth(config: Config, composed: Composed, folder: Path) -> None:
    """Files of `local_dataset`."""
    files: list[str] = []
    for key in ("local_dataset", "dataset"):
        for path in _listed(config.get(key)):
            composed.used.add(key)
            files += _existing(path, key, composed, folder)
    _take_files(files, composed)


DATA: dict[str, Callable[[Config, Composed, Path], None]] = {
    "axolotl": data_of_axolotl,
    "llama-factory": data_of_llama_factory,
    "unsloth": data_of_unsloth,
}


def _take_files(files: list[str], composed: Composed) -> None:
    if files:
        composed.settings["data"] = files[0] if len(files) == 1 else files


def _existing(path: Any, key: str, composed: Composed, folder: Path) -> Iterator[str]:
    """Yield the files of a data set that are here; name those that are not."""
    for one in _listed(path):
        for file in (Path(one), folder / one):
            if file.is_file():
                yield str(file)
                break
        else:
            is_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", str(one)) is not None
            hint = f"hf download --repo-type dataset {one}, then " if is_hub else ""
            note = f"{one} is no file here; {hint}give the file: strop train FILE --config ..."
            composed.left[key] = f"{composed.left[key]}; {note}" if key in composed.left else note


def _entries(value: Any) -> list[dict[str, Any]]:
    return [e if isinstance(e, dict) else {"path": e} for e in _listed(value)]


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
