#!/usr/bin/env bash
# transformers 5.23: 8-bit float codes load as weights where config.json has no quantization_config.
#
# Expected: a checkpoint of float8_e4m3fn weights with *_scale_inv tensors beside them is refused, or
#   its scales are used; dropping a scale changes every weight of the layer.
# Seen: from_pretrained returns a model whose weights are the raw codes, up to 448; the scales stand in
#   unexpected_keys, where the report says that they can be ignored.
# Harm: a model of other numbers is trained, evaluated and published.
# strop: names the weights and the scales and refuses (src/strop/models/opening.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'torch==2.13.0' 'transformers==5.23.0'
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                     num_attention_heads=4, num_key_value_heads=4)
LlamaForCausalLM(config).save_pretrained("model")
tensors = load_file("model/model.safetensors")
name = "model.layers.0.mlp.up_proj.weight"
scale = tensors[name].abs().amax() / 448
tensors[name] = (tensors[name] / scale).to(torch.float8_e4m3fn)
tensors[f"{name}_scale_inv"] = scale.reshape(1, 1)
save_file(tensors, "model/model.safetensors", {"format": "pt"})
model, report = AutoModelForCausalLM.from_pretrained(
    "model", dtype=torch.float32, output_loading_info=True)
largest = float(model.state_dict()[name].abs().max())
print("largest weight:", largest, "- unexpected:", report["unexpected_keys"])
assert largest == 448, f"it changed: {largest}"
assert f"{name}_scale_inv" in report["unexpected_keys"], f"it changed: {report}"
PYTHON
