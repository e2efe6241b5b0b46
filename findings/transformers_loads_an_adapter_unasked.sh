#!/usr/bin/env bash
# transformers 5.23: from_pretrained of a model folder loads an adapter that lies in it, unasked.
#
# Expected: AutoModelForCausalLM.from_pretrained(folder) gives the weights of model.safetensors.
# Seen: with peft installed and an adapter_config.json in the folder, the adapter is injected; the
#   logits are not those of model.safetensors.
# Harm: who saves an adapter into the model's folder evaluates, trains and exports another model.
# strop: refuses such a folder and says what to move (src/strop/models/weight_files.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'torch==2.13.0' 'transformers==5.23.0' 'peft==0.21.2'
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                     num_attention_heads=4, num_key_value_heads=4)
LlamaForCausalLM(config).save_pretrained("model")
ids = torch.arange(8)[None]
plain = AutoModelForCausalLM.from_pretrained("model")(ids).logits
tuned = get_peft_model(AutoModelForCausalLM.from_pretrained("model"),
                       LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
tuned.save_pretrained("model")  # as users do: beside the weights it was trained on
again = AutoModelForCausalLM.from_pretrained("model")
seen = any("lora_" in name for name, _ in again.named_parameters())
print("adapter in the model:", seen, "- logits as before:", torch.equal(again(ids).logits, plain))
assert seen, f"it changed: {seen}"
assert not torch.equal(again(ids).logits, plain), "it changed: the logits are the base's"
PYTHON
