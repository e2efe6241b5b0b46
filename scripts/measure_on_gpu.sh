#!/usr/bin/env bash
# All that only a card can say about strop, on a machine with one NVIDIA card, Python 3.12, torch 2.11 and
# no network. Takes 8 minutes at most and writes benchmarks/results/gpu/card.json for docs/gpu.md.
#
#   scripts/measure_on_gpu.sh --collect    with a network, beforehand: the wheels it needs into .card/
#   scripts/measure_on_gpu.sh              on that machine, in a copy of this folder, .card/ included
#   scripts/measure_on_gpu.sh --dry-run    the same without a card, in an environment that has strop
#
# Further arguments go to benchmarks/card.py: --minutes, --out. PYTHON names the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
wheels=.card
largest=60000000 # bytes
# What strop, TRL and the tests import besides torch, triton, numpy, pandas and pyarrow, which must be there.
needed=(
  accelerate annotated-doc annotated-types anyio certifi charset-normalizer click datasets dill filelock
  fsspec gguf h11 hf-xet httpcore2 httpx2 huggingface_hub hypothesis idna iniconfig jinja2
  markdown-it-py markupsafe mdurl multiprocess packaging peft pluggy psutil pydantic pydantic_core
  pygments pytest pyyaml regex requests rich safetensors shellingham sortedcontainers tokenizers tqdm
  transformers trl truststore typer typing-extensions typing-inspection urllib3 xxhash
)

collect() {
  rm -rf "$wheels"
  local platforms=(--platform any)
  for glibc in 2_17 2_24 2_27 2_28; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
  platforms+=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64)
  "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp "${platforms[@]}" -c constraints.txt -d "$wheels" "${needed[@]}"
  local bytes
  bytes=$(cat "$wheels"/*.whl | wc -c)
  echo "$(ls "$wheels" | wc -l) wheels, $((bytes / 1000000)) MB in $wheels/"
  ((bytes <= largest)) || { echo "more than $((largest / 1000000)) MB; nothing larger can be brought" >&2; exit 1; }
}

present() { # all that is missing or too old, at once
  "$python" - <<'CHECK'
import importlib.metadata as metadata, sys
least = {"torch": 2, "triton": 3, "numpy": 2, "pandas": 2, "pyarrow": 24}
wrong = []
for name, major in least.items():
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        wrong.append(f"{name} is not installed")
        continue
    if int(version.split(".")[0]) < major:
        wrong.append(f"{name} is {version}, {major} or newer is needed")
sys.exit(f"{sys.executable}: {'; '.join(wrong)}. PYTHON=... names another interpreter." if wrong else 0)
CHECK
}

case "${1:-}" in
  --collect) collect ;;
  --dry-run) exec "$python" benchmarks/card.py "$@" ;;
  -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0" ;;
  *)
    present
    [ -d "$wheels" ] || { echo "$wheels/ is not here: run $0 --collect with a network first" >&2; exit 1; }
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
      --target "$site" "$wheels"/*.whl
    PYTHONPATH="$site:$PWD/src" "$python" benchmarks/card.py "$@"
    ;;
esac
