#!/usr/bin/env bash
# bitsandbytes 0.50.2: on CPUs with AVX512-BF16 a Linear4bit whose outputs 32 does not divide fails in its first forward for inference.
#
# Expected: a 4-bit layer of any number of outputs computes on every CPU, as it does on CUDA and on CPUs without AVX512-BF16.
# Seen: the first forward in eval mode repacks the weight in blocks of 32 rows and raises "N must be divisible by block_n";
#   in training mode the same layer computes.
# Harm: a 4-bit model with such layers (key and value heads of 24, say) cannot be run, although it loads.
# strop: src/strop/export/bnb.py leaves such layers in 16 bits.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'torch==2.13.0' 'bitsandbytes==0.50.2' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from bitsandbytes.functional import has_avx512bf16
from bitsandbytes.nn import Linear4bit

if not has_avx512bf16():
    sys.exit(print("this CPU has no AVX512-BF16, which the behaviour needs"))


def ran(outputs, training):
    """Return the error of a forward without gradient, or None."""
    layer = Linear4bit(64, outputs, bias=False, quant_type="nf4").to("cpu").train(training)
    layer.weight = layer.weight.to("cpu")
    try:
        with torch.no_grad():
            layer(torch.randn(2, 64))
    except AssertionError as e:
        return str(e)
    return None


seen = {(outputs, mode): ran(outputs, mode) for outputs in (48, 64) for mode in (True, False)}
for (outputs, training), error in seen.items():
    print(outputs, "outputs,", "training:" if training else "inference:", error or "computes")
wanted = {(48, True): None, (48, False): "N must be divisible by block_n", (64, True): None, (64, False): None}
assert seen == wanted, f"it changed: {seen}"
PYTHON
