#!/usr/bin/env bash
# PyTorch 2.13.0: in bfloat16 on a CPU, two caches keep each compiled product; bounding oneDNN's leaves most.
#
# Expected: ONEDNN_PRIMITIVE_CACHE_CAPACITY bounds the memory of products that are compiled for each new
#   number of rows, as oneDNN's documentation says.
# Seen: 1,920 products of 160 numbers of rows add 864 MB; with oneDNN's bound of 128 still 549 MB, with one of
#   64 on the cache of ideep, through which PyTorch calls oneDNN (LRU_CACHE_CAPACITY), 679 MB; with both 143 MB, in
#   the same time: each keeps alive what the other lets go.
# Harm: training on rows of many lengths grows by 0.8 GB in its first hundred steps and looks like a leak.
# strop: both are bounded where a model is loaded (src/strop/core/env.py, keep_few_products).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'torch==2.13.0' 'numpy==2.4.6'
cat > "$folder/products.py" <<'PYTHON'
import random
import re
from pathlib import Path

import torch


def resident() -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


torch.set_num_threads(1)
weights = [torch.ones(o, i).bfloat16() for o, i in ((576, 576), (192, 576), (1536, 576), (576, 1536))]
before = resident()
with torch.inference_mode():
    for rows in random.Random(0).sample(range(20, 900), 160):
        for weight in weights:
            wide, deep = weight.shape
            hidden = torch.ones(rows, deep, dtype=torch.bfloat16)
            torch.mm(hidden, weight.T)
            torch.mm(torch.ones(rows, wide, dtype=torch.bfloat16), weight)
            torch.mm(hidden, hidden[:16].T)
print((resident() - before) // 10**6)
PYTHON
grown() { env "$@" "$folder/venv/bin/python" "$folder/products.py"; }
default=$(grown A=1)
one=$(grown ONEDNN_PRIMITIVE_CACHE_CAPACITY=128)
other=$(grown LRU_CACHE_CAPACITY=64)
both=$(grown ONEDNN_PRIMITIVE_CACHE_CAPACITY=128 LRU_CACHE_CAPACITY=64)
echo "grown by $default MB; with oneDNN's bound $one MB, with ideep's $other MB, with both $both MB"
if ((default < 300)); then
    echo "this processor multiplies bfloat16 otherwise: nothing to see here"
    exit 0
fi
((2 * one > default && 2 * other > default)) || { echo "it changed: one bound is enough"; exit 1; }
((3 * both < default)) || { echo "it changed: both do not bound it"; exit 1; }
