"""Save a model the way a comparison wants it stored.

Run as `python benchmarks/checkpoint.py KIND MODEL FOLDER`; prints the folder as a line of JSON.
`bnb-4bit` is bitsandbytes' NF4 with double quantisation and the rest in bfloat16; `bfloat16` is
every weight in bfloat16, as most models are published.
"""

import json
import sys

import torch
import transformers

from strop.models import resolve

BNB = transformers.BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.float32,
)

if __name__ == "__main__":
    kind, name, out = sys.argv[1:]
    stored = {"bnb-4bit": {"quantization_config": BNB}, "bfloat16": {}}[kind]
    plain = resolve(name)
    model = transformers.AutoModelForCausalLM.from_pretrained(plain, dtype=torch.bfloat16, **stored)
    model.save_pretrained(out)
    transformers.AutoTokenizer.from_pretrained(plain).save_pretrained(out)
    print(json.dumps({"folder": out}))
