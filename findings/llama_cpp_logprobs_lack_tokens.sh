#!/usr/bin/env bash
# llama.cpp (xllamacpp 2026.10.11549): logprobs of a chat lack the tokens that end inside a character.
#
# Expected: choices[0].logprobs.content has an entry for each token that was sampled, as OpenAI's interface says
#   ("a list of message content tokens with log probability information").
# Seen: of the tokens <0xC3>, <0xB6> of "ö" only the second is listed, with the bytes of both; usage counts both.
#   {"return_tokens": true, "verbose": true} has the sampled ids in __verbose.tokens.
# Harm: whoever compares an answer with a reference by these ids, or sums its log-probabilities, is wrong for every
#   accent, Chinese character or emoji that the tokenizer splits.
# strop: src/strop/export/llama_cpp_chats.py reads the sampled ids.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'xllamacpp==2026.10.11549' 'gguf==0.19.0' 'numpy==2.4.6'
"$folder/venv/bin/python" - "$folder/tiny.gguf" <<'PYTHON'
import json
import sys
import urllib.request

import gguf
import numpy as np
import xllamacpp

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}>"
WIDTH, VOCABULARY, END = 32, 300, 2
CHAIN = [3 + ord(">"), 3 + 0xC3, 3 + 0xB6, END]


def tiny(file):
    """Write a Llama whose one layer adds nothing: behind ">" come the bytes of "ö" and the end."""
    out = gguf.GGUFWriter(file, "llama")
    out.add_context_length(512)
    out.add_embedding_length(WIDTH)
    out.add_block_count(1)
    out.add_feed_forward_length(WIDTH)
    out.add_head_count(2)
    out.add_rope_dimension_count(WIDTH // 2)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_tokenizer_model("llama")
    out.add_eos_token_id(END)
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
    embedding, head = np.zeros((2, VOCABULARY, WIDTH), np.float32)
    for i, (token, following) in enumerate(zip(CHAIN, CHAIN[1:])):
        embedding[token, i], head[following, i] = 1, 1
    out.add_tensor("token_embd.weight", embedding)
    out.add_tensor("output.weight", head)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


tiny(sys.argv[1])
settings = xllamacpp.CommonParams()
settings.model.path = sys.argv[1]
settings.n_ctx, settings.n_parallel, settings.warmup, settings.verbosity = 512, 1, False, -1
server = xllamacpp.Server(settings)
body = {"messages": [{"role": "user", "content": "a"}], "temperature": 0, "logprobs": True}
request = urllib.request.Request(
    f"{server.listening_address}/v1/chat/completions",
    json.dumps({**body, "return_tokens": True, "verbose": True}).encode(),
    {"Content-Type": "application/json"},
)
reply = json.loads(urllib.request.urlopen(request).read())
choice = reply["choices"][0]
listed = [entry["id"] for entry in choice["logprobs"]["content"]]
print("answer", choice["message"]["content"], "sampled", reply["__verbose"]["tokens"], "listed", listed)
assert choice["message"]["content"] == "ö"
assert reply["__verbose"]["tokens"] == CHAIN[1:]
assert CHAIN[1] not in listed and CHAIN[2] in listed, f"it changed: {listed}"
PYTHON
