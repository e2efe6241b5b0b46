"""Save a model as bitsandbytes quantises it: NF4, double quantisation, the rest in bfloat16.

Run as `python benchmarks/bnb_checkpoint.py MODEL FOLDER`; prints the folder as a line of JSON.
"""

import json
import sys

import torch
import transformers

from strop.models import resolve

if __name__ == "__main__":
    name, out = sys.argv[1:]
    plain = resolve(name)
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(
        plain, quantization_config=config, dtype=torch.bfloat16
    )
    model.save_pretrained(out)
    transformers.AutoTokenizer.from_pretrained(plain).save_pretrained(out)
    print(json.dumps({"folder": out}))
