#!/usr/bin/env bash
# transformers 5.23.0: apply_chat_template takes out keys whose value is None, so a chat template that asks
# `message['content'] is none`, as DeepSeek-R1-Distill's does, writes no tool call.
#
# Expected: an assistant message with "content": None and tool_calls is written as a call, as the template says.
# Seen: with None the template fails ('dict object' has no attribute 'content'); with "" it writes an empty
#   answer without the call, without a word. With the key in place the same template writes the call.
# Harm: no form of the message gives the call; with "" a model is trained on, or shown, an empty answer.
# strop: refuses the row ("leaves out tool calls, which are the answer"), src/strop/data/encoding.py.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'transformers==5.23.0' 'jinja2==3.1.6'
"$folder/venv/bin/pip" install --quiet --no-deps 'trl==1.16.0'
"$folder/venv/bin/python" - <<'PYTHON'
import sysconfig
from pathlib import Path

import jinja2
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

place = Path(sysconfig.get_path("purelib")) / "trl" / "chat_templates" / "deepseek_r1_distill.jinja"
template = place.read_text("utf-8")
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), bos_token="a"
)
call = {"type": "function", "function": {"name": "rain", "arguments": '{"city": "Oslo"}'}}


def written(content):
    messages = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": content, "tool_calls": [call]},
    ]
    try:
        return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    except jinja2.UndefinedError as error:
        return f"fails: {error}"


with_none, with_empty = written(None), written("")
plain = jinja2.Environment().from_string(template).render(
    messages=[{"role": "assistant", "content": None, "tool_calls": [call]}], bos_token=""
)
print("content None: ", with_none)
print("content '':   ", with_empty)
print("jinja2, None: ", plain)
assert with_none.startswith("fails: ") and "content" in with_none, f"it changed: {with_none}"
assert "rain" not in with_empty, f"it changed: {with_empty}"
assert "rain" in plain and "Oslo" in plain, f"it changed: {plain}"
PYTHON
