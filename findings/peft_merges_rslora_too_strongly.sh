#!/usr/bin/env bash
# PEFT 0.21.2: add_weighted_adapter makes merged rsLoRA adapters sqrt(rank) times too strong.
#
# Expected: combination_type="cat", which the documentation calls precise, gives the weighted sum of the
#   updates, as it does for adapters without rsLoRA.
# Seen: the new adapter gets lora_alpha = rank for a scale of 1, but keeps use_rslora, which makes its
#   scale alpha / sqrt(rank): two adapters of rank 4 give 2.83 times their sum, sqrt(8).
# Harm: a merged adapter overwrites the model it is put on; nothing warns.
# strop: takes use_rslora out of the settings before it merges (src/strop/models/lora/merging.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'torch==2.13.0' 'transformers==5.23.0' 'peft==0.21.2'
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)


ratios = {}
for rslora in (False, True):
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["layer"], use_rslora=rslora, init_lora_weights=False)
    model = get_peft_model(Model(), config, adapter_name="one")
    model.add_adapter("two", config)
    layer = model.base_model.model.layer
    total = 0.5 * layer.get_delta_weight("one") + 0.5 * layer.get_delta_weight("two")
    model.add_weighted_adapter(["one", "two"], [0.5, 0.5], "both", combination_type="cat")
    ratios[rslora] = float((layer.get_delta_weight("both").norm() / total.norm()).detach())
print("merged update over the weighted sum:", ratios)
assert abs(ratios[False] - 1) < 1e-5, f"it changed: {ratios}"
assert abs(ratios[True] - 8**0.5) < 1e-4, f"it changed: {ratios}"
PYTHON
