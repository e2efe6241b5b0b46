#!/usr/bin/env bash
# safetensors 0.8.0: with backend="pread" a slice of a tensor reads all of the tensor from the file.
#
# Expected: `get_slice(name)[first:last]` reads these rows, as it does from a mapped file and as the method's
#   purpose says; and a whole tensor is in memory once.
# Seen: ten slices of a hundredth each of a tensor of 400 MB read 4,000 MB, 10.00 times the tensor; all of it
#   (`[:]`) takes 2.00 times its bytes at the peak.
# Harm: reading a large embedding by parts to save memory takes the square of the time and more memory than
#   reading it at once.
# strop: large tensors are read through a map of the file that is closed after each block
#   (src/strop/models/files/cast_on_read.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'safetensors==0.8.0' 'numpy==2.4.6'
"$folder/venv/bin/python" - "$folder/one.safetensors" <<'PYTHON'
import re
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

ROWS, WIDTH = 100_000, 1_000
SIZE = ROWS * WIDTH * 4
save_file({"weight": np.ones((ROWS, WIDTH), dtype=np.float32)}, sys.argv[1])


def number(file: str, name: str) -> int:
    return int(re.search(rf"{name}:\s+(\d+)", Path(file).read_text())[1])


def memory(name: str) -> int:
    return number("/proc/self/status", name) * 1024


with safe_open(sys.argv[1], framework="np", backend="pread") as file:
    part = file.get_slice("weight")
    before = number("/proc/self/io", "rchar")
    rows = sum(len(part[first : first + ROWS // 100]) for first in range(0, ROWS, ROWS // 10))
    read = (number("/proc/self/io", "rchar") - before) / SIZE
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    whole = part[:]
    most = (memory("VmHWM") - before) / SIZE
print(f"{rows:,} of {ROWS:,} rows in ten slices: {read:.2f} times the tensor is read")
print(f"the whole tensor: {most:.2f} times its bytes at the peak")
assert rows == ROWS // 10 and read > 9.5, f"it changed: {read:.2f}"
assert most > 1.7, f"it changed: {most:.2f}"
PYTHON
