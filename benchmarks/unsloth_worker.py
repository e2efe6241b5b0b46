"""One measurement of Unsloth's CPU backend, in an environment that has it (`make bench-unsloth`).

Run by that environment's Python as `unsloth_worker.py ROWS.json MODEL_FOLDER MODE`; the mode
`imports` measures what importing it alone takes. It writes what it compiles into the working
directory, which is therefore a temporary one.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from unsloth import FastLanguageModel  # isort: skip  # before TRL
import torch
from modes import RANK, Mode
from trl_trainers import answer, build, train

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LONGEST = 1024
"""Tokens of a row; the chats are shorter."""


def built(
    model_folder: Path, workload: dict[str, Any], mode: Mode, settings: dict[str, Any]
) -> Any:
    """Return Unsloth's trainer of a mode; it chooses the format of its products itself."""
    stored = json.loads((model_folder / "config.json").read_text())
    model, tokenizer = FastLanguageModel.from_pretrained(
        str(model_folder), max_seq_length=LONGEST, load_in_4bit="quantization_config" in stored
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=RANK,
        lora_alpha=RANK,
        lora_dropout=0.0,
        target_modules=LINEAR,
        use_gradient_checkpointing="unsloth" if mode.checkpointing else False,
        random_state=0,
    )
    own = {name: settings[name] for name in settings.keys() - {"bf16", "gradient_checkpointing"}}
    return build(workload, own, model=model, processing_class=tokenizer)


def measure(rows: Path, model_folder: Path, mode_name: str) -> dict[str, Any]:
    """Train as a mode says, on every core, and return what it took and what came out."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return train(rows, model_folder, mode_name, built)


if __name__ == "__main__":
    print(answer(sys.argv, measure))
