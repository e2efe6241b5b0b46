#!/usr/bin/env bash
# PEFT 0.21.2 with transformers 5.23.0: target_modules that name a mixture's experts leave them out silently.
#
# Expected: an error, or at least a warning, for names of which no module has an adapter; each of the
#   three names stands in the model's list of parameters.
# Seen: transformers stacks the experts of Mixtral in two parameters, gate_up_proj and down_proj, that
#   belong to no linear module. PEFT puts adapters on q_proj alone and says nothing: one layer of eight
#   experts has 2 trained tensors. target_parameters finds them.
# Harm: a training that is believed to adapt the experts, most of the model's weights, adapts only
#   attention; losses fall all the same.
# strop: all-linear and names of experts become target_parameters (src/strop/models/lora/target_modules.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'torch==2.13.0' 'transformers==5.23.0' 'peft==0.21.2'
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

from peft import LoraConfig, get_peft_model
from transformers import MixtralConfig, MixtralForCausalLM

sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, vocab_size=100)
config = MixtralConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, num_local_experts=8)
names = ["q_proj", "gate_up_proj", "down_proj"]
model = MixtralForCausalLM(config)
parameters = [name for name, _ in model.named_parameters()]
assert all(any(name in parameter for parameter in parameters) for name in names), parameters
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    adapted = get_peft_model(model, LoraConfig(target_modules=names))
trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
said = [str(w.message) for w in caught if "proj" in str(w.message)]
print("trained:", trained)
print("warnings that name a layer:", said)
assert trained and all("q_proj" in name for name in trained), f"it changed: {trained}"
assert not said, f"it changed: {said}"
with_parameters = LoraConfig(
    target_modules=["q_proj"], target_parameters=["experts.gate_up_proj", "experts.down_proj"]
)
found = get_peft_model(MixtralForCausalLM(config), with_parameters)
assert any("experts" in n for n, p in found.named_parameters() if p.requires_grad)
PYTHON
