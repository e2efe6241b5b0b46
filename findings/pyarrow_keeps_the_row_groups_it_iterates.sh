#!/usr/bin/env bash
# pyarrow 26.0.1: ParquetFile.iter_batches keeps every row group that it has gone through.
#
# Expected: reading a file batch by batch takes the memory of some batches, as its documentation offers it
#   for ("read streaming batches from a Parquet file") and as pyarrow 24.0.0 does.
# Seen: at the end of the loop the pool holds as many bytes as the file has, and gives them back when the
#   ParquetFile is closed: from version 25 on `pre_buffer` is True unless it is given, and what is buffered in
#   advance is dropped only at the end. With pre_buffer=False two batches are held.
# Harm: a data set larger than memory, read in batches for this very reason, ends the process; nothing in
#   the program changed but the version.
# strop: gives pre_buffer=False (src/strop/data/reading/sources.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 24.0.0 26.0.1; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet "pyarrow==$version"
    "$folder/$version/bin/python" - "$folder/rows.parquet" <<'PYTHON'
import sys

import pyarrow as pa
import pyarrow.parquet as pq

rows = pa.table({"text": [f"{i} {'word ' * 200}" for i in range(60_000)]})
pq.write_table(rows, sys.argv[1], compression="none", use_dictionary=False, row_group_size=2_000)
size = rows.nbytes
del rows
held = {}
for given in ({}, {"pre_buffer": False}):
    with pq.ParquetFile(sys.argv[1], **given) as file:
        most = 0
        for batch in file.iter_batches(1_000):
            most = max(most, pa.total_allocated_bytes())
    held[str(given)] = round(most / size, 2)
print(f"pyarrow {pa.__version__}: share of {size / 1e6:.0f} MB that is held, by what is given:", held)
kept = held["{}"] > 0.9
assert kept == (pa.__version__ == "26.0.1"), f"it changed: {held}"
assert held["{'pre_buffer': False}"] < 0.1, f"it changed: {held}"
PYTHON
done
