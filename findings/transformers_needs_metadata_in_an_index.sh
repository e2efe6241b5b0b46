#!/usr/bin/env bash
# transformers 5.23: a shard index without "metadata" ends in KeyError, though it names every file.
#
# Expected: model.safetensors.index.json with a whole weight_map is enough; metadata holds a size
#   that loading does not need.
# Seen: KeyError: 'metadata'.
# Harm: folders written or edited by other tools cannot be opened, and the message names no file.
# strop: says what to add to which file (src/strop/models/weight_files.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'torch==2.13.0' 'transformers==5.23.0'
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
from pathlib import Path
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                     num_attention_heads=4, num_key_value_heads=4)
LlamaForCausalLM(config).save_pretrained("model", max_shard_size="10KB")
index = Path("model/model.safetensors.index.json")
said = json.loads(index.read_text())
index.write_text(json.dumps({"weight_map": said["weight_map"]}))
try:
    AutoModelForCausalLM.from_pretrained("model")
    seen = "opened"
except KeyError as e:
    seen = f"KeyError {e}"
print(seen)
assert seen == "KeyError 'metadata'", f"it changed: {seen}"
PYTHON
