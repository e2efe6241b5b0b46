"""One measurement in a process of its own: build a trainer, train, print one line of JSON.

Run as `python benchmarks/worker.py ROWS.json MODEL_FOLDER MODE`; the mode `imports` measures what
importing the libraries alone takes.
"""

import os
import sys
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from modes import RANK, Mode
from trl_trainers import answer, build, train

import strop


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


def built(
    model_folder: Path, workload: dict[str, Any], mode: Mode, settings: dict[str, Any]
) -> Any:
    """Return the trainer of a mode, accelerated where the mode says so."""
    model, tokenizer = opened(model_folder, mode)
    adapter = peft.LoraConfig(
        r=RANK,
        lora_alpha=RANK,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    trainer = build(
        workload,
        settings,
        model=model,
        processing_class=tokenizer,
        peft_config=adapter if mode.adapter else None,
    )
    if mode.weights != "strop" and mode.dtype == "float32":
        compute_in_float32(trainer.model)
    if mode.accelerate is not None:
        strop.accelerate(trainer, **mode.accelerate)
        if not mode.share:
            stop_sharing(trainer)
    return trainer


def measure(rows: Path, model_folder: Path, mode_name: str) -> dict[str, Any]:
    """Train as a mode says, on every core, and return what it took and what came out."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return train(rows, model_folder, mode_name, built)


if __name__ == "__main__":
    print(answer(sys.argv, measure))
