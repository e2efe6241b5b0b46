#!/usr/bin/env bash
# transformers 5.23.0: a side of padding that is set on a tokenizer is lost when the tokenizer is saved.
#
# Expected: save_pretrained writes the tokenizer as it is, as it does for pad_token or chat_template set the same way.
# Seen: tokenizer.padding_side = "left"; after save_pretrained and from_pretrained it is "right". truncation_side
#       likewise. Given to from_pretrained instead, padding_side="left" is saved.
# Harm: a tokenizer prepared for generation in batches pads on the other side once it is shared, and the answers
#       of all but the longest row continue behind padding.
# strop: src/strop/models/frame.py writes the sides among the tokenizer's settings before it saves it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'transformers==5.23.0'
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

folder = sys.argv[1] + "/saved"
inner = Tokenizer(models.WordLevel({"<pad>": 0, "a": 1, "b": 2}, unk_token="<pad>"))
PreTrainedTokenizerFast(tokenizer_object=inner).save_pretrained(folder)

tokenizer = AutoTokenizer.from_pretrained(folder)
tokenizer.padding_side = tokenizer.truncation_side = "left"
tokenizer.pad_token, tokenizer.chat_template = "<pad>", "{{ messages }}"
tokenizer.save_pretrained(folder + "-set")
found = AutoTokenizer.from_pretrained(folder + "-set")
seen = [found.pad_token, found.chat_template, found.padding_side, found.truncation_side]
print("set, saved, opened:", seen)
assert seen == ["<pad>", "{{ messages }}", "right", "right"], f"it changed: {seen}"

AutoTokenizer.from_pretrained(folder, padding_side="left").save_pretrained(folder + "-given")
seen = AutoTokenizer.from_pretrained(folder + "-given").padding_side
print("given when opened, saved, opened:", seen)
assert seen == "left", f"it changed: {seen}"
PYTHON
