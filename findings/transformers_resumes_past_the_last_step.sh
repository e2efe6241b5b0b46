#!/usr/bin/env bash
# transformers 5.23.0: a Trainer resumed from the checkpoint of its last step trains one step more, where max_steps does not end an epoch.
#
# Expected: a run of max_steps=3 that is resumed from checkpoint-3 has nothing left to do, as one of whole epochs has.
# Seen: it ends with global_step 4; the bound is looked at after a step, never before the first.
# Harm: a job that is killed after its last checkpoint and started again ends with another model than one that
#   was left alone, and again another each time it is started.
# strop: src/strop/training/trainer.py loads such a checkpoint and does not train.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'torch==2.13.0' 'transformers==5.23.0' 'accelerate==1.15.0' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import json
import tempfile

import torch
from torch import nn
from transformers import Trainer, TrainingArguments


class Model(nn.Module):
    """One linear layer and its loss."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x, labels):
        return {"loss": (self.layer(x) - labels).square().mean()}


rows = [{"x": torch.ones(2) * i, "labels": torch.ones(1)} for i in range(4)]  # two batches an epoch


def steps(max_steps):
    """Train to the end, then resume from the checkpoint of the last step; return both counts."""
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, max_steps=max_steps, per_device_train_batch_size=2, save_steps=1, report_to="none",
            use_cpu=True, disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        counts = []
        for start in (None, f"{folder}/checkpoint-{max_steps}"):
            trainer = Trainer(Model(), args, train_dataset=rows)
            trainer.train(resume_from_checkpoint=start)
            counts.append(trainer.state.global_step)
        return counts


seen = {max_steps: steps(max_steps) for max_steps in (2, 3)}
for max_steps, (first, resumed) in seen.items():
    print(f"max_steps={max_steps}: {first} steps, resumed from the last checkpoint {resumed}")
assert seen == {2: [2, 2], 3: [3, 4]}, f"it changed: {seen}"
PYTHON
