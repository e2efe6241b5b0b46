#!/usr/bin/env bash
# transformers 5.23.0: rows packed into one and marked by position_ids stay apart in attention only.
#
# Expected: position ids that start anew keep packed rows apart, as they do in attention layers, or an
#   error as for `cu_seq_lens_q` and `seq_idx` ("can't keep packed sequences apart without ...").
# Seen: attention layers reset; LFM2's convolutions and Qwen3.5's gated delta nets run on into the next
#   row. The second row's logits change with the first row's tokens.
# Harm: packed training of hybrid models computes losses and gradients of texts that run into one
#   another, without a word.
# strop: runs such layers run by run (src/strop/models/mixers.py), and proves it before use.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'torch==2.13.0' 'transformers==5.23.0'
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import Lfm2Config, Lfm2ForCausalLM, Qwen3_5ForCausalLM, Qwen3_5TextConfig

SIZES = dict(vocab_size=99, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2)
QWEN = dict(layer_types=["linear_attention"] * 2, linear_num_key_heads=2, linear_num_value_heads=4,
            linear_key_head_dim=8, linear_value_head_dim=8, head_dim=8)
packed = dict(position_ids=torch.arange(10).repeat(2)[None], use_cache=False)
for kind, model in (
    ("attention", Lfm2ForCausalLM(Lfm2Config(**SIZES, layer_types=["full_attention"] * 2))),
    ("convolution", Lfm2ForCausalLM(Lfm2Config(**SIZES, layer_types=["conv"] * 2))),
    ("delta net", Qwen3_5ForCausalLM(Qwen3_5TextConfig(**SIZES, **QWEN))),
):
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    second, seen = torch.arange(5, 15), []
    with torch.no_grad():
        for first in (torch.arange(20, 30), torch.arange(40, 50)):
            rows = torch.cat([first, second])[None]
            seen.append(model(input_ids=rows, **packed).logits[0, 10:])
    moved = float((seen[0] - seen[1]).abs().max())
    print(type(model).__name__, kind, "the second row's logits move by", moved)
    assert (moved == 0) if kind == "attention" else (moved > 1e-3), f"it changed: {moved}"
PYTHON
