#!/usr/bin/env bash
# llama.cpp (xllamacpp 2026.10.11549): its Jinja writes 3.0 as 3, and its server rebuilds tools, so chats with tools become other prompts.
#
# Expected: /apply-template renders messages and tools as transformers' apply_chat_template does, of which
#   the template in a GGUF file was written for: "tojson" of 3.0 is 3.0, a tool has the entries that were sent.
# Seen: {"level": 3.0} in an earlier call becomes {"level": 3}; of a tool only name, description and parameters
#   are left ("strict" is gone), and a tool without a description gets "description": "".
# Harm: a model that was fine-tuned on tool calls is served other prompts than it was trained on.
# strop: src/strop/export/llama_cpp_chats.py compares such chats token by token and names the difference in the certificate.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'xllamacpp==2026.10.11549' 'gguf==0.19.0' 'numpy==2.4.6' 'jinja2==3.1.6'
"$folder/venv/bin/python" - "$folder/tiny.gguf" <<'PYTHON'
import json
import sys
import urllib.request

import gguf
import jinja2
import numpy as np
import xllamacpp

TEMPLATE = (
    "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}{% for m in messages %}<{{ m.role }}>"
    "{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}{{ m.content or '' }}\n"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
WIDTH, VOCABULARY = 32, 300


def tiny(file):
    """Write a Llama of one layer of zeros and a vocabulary of single bytes."""
    out = gguf.GGUFWriter(file, "llama")
    out.add_context_length(512)
    out.add_embedding_length(WIDTH)
    out.add_block_count(1)
    out.add_feed_forward_length(WIDTH)
    out.add_head_count(2)
    out.add_rope_dimension_count(WIDTH // 2)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_tokenizer_model("llama")
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    kinds = [2, 3, 3, *[6] * 256]
    more = VOCABULARY - len(tokens)
    out.add_token_list([*tokens, *(f"[PAD{i}]" for i in range(more))])
    out.add_token_scores([0.0] * VOCABULARY)
    out.add_token_types([*kinds, *[5] * more])
    out.add_chat_template(TEMPLATE)
    square = np.zeros((WIDTH, WIDTH), np.float32)
    names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    for name in names:
        out.add_tensor(f"blk.0.{name}.weight", square)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        out.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    out.add_tensor("token_embd.weight", np.zeros((VOCABULARY, WIDTH), np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


tiny(sys.argv[1])
settings = xllamacpp.CommonParams()
settings.model.path = sys.argv[1]
settings.n_ctx, settings.n_parallel, settings.warmup, settings.verbosity = 512, 1, False, -1
server = xllamacpp.Server(settings)
parameters = {"type": "object", "properties": {"level": {"type": "number"}}}
tools = [{"type": "function", "function": {"name": "heat", "parameters": parameters, "strict": True}}]
call = {"id": "1", "type": "function", "function": {"name": "heat", "arguments": '{"level": 3.0}'}}
messages = [
    {"role": "user", "content": "Warm it up."},
    {"role": "assistant", "content": "", "tool_calls": [call]},
    {"role": "tool", "tool_call_id": "1", "content": "done"},
]
request = urllib.request.Request(
    f"{server.listening_address}/apply-template",
    json.dumps({"messages": messages, "tools": tools}).encode(),
    {"Content-Type": "application/json"},
)
served = json.loads(urllib.request.urlopen(request).read())["prompt"]
environment = jinja2.Environment()
environment.filters["tojson"] = json.dumps  # as transformers has it
objects = [*messages]
objects[1] = {**messages[1], "tool_calls": [{"function": {"name": "heat", "arguments": {"level": 3.0}}}]}
trained = environment.from_string(TEMPLATE).render(
    messages=objects, tools=tools, add_generation_prompt=True
)
print("trained:", trained, sep="\n")
print("served:", served, sep="\n")
assert '{"level": 3.0}' in trained and '"strict": true' in trained and "description" not in trained
assert '{"level": 3}' in served, "it changed: 3.0 is written as training does"
assert '"description": ""' in served and "strict" not in served, "it changed: tools are left as sent"
PYTHON
