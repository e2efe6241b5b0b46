"""What a training step was foretold to need beside what it took, on this machine's CPU.

Run as `python benchmarks/memory.py`; writes `benchmarks/results/cpu/memory.json`. Each step runs in a
fresh process, which warms up on a tiny model first: counted is what two steps add to the resident
memory at its peak, as the system has it. The models are stored in bfloat16 and mapped, so that their
weights are among it; the adapter is there before.
"""

import argparse
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from compare import RESULTS, circumstances, in_a_process

from strop.core.files import write_json

MODELS = ("smollm2-135m-instruct", "gemma-3-270m", "qwen2.5-coder-0.5b-instruct")
ACTIVATIONS = ("keep", "checkpoint", "offload")


def arguments() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--activations", nargs="+", default=ACTIVATIONS)
    parser.add_argument("--lengths", nargs="+", type=int, default=(512, 2048))
    parser.add_argument("--out", type=Path, default=RESULTS / "memory.json")
    return parser


def compared(folder: Path, asked: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Return what was foretold and what was taken, in bytes, and the error of the first."""
    file = scratch / "setup.json"
    file.write_text(json.dumps(asked))
    step = in_a_process("memory_foretold.py", file)
    measured = in_a_process("memory_worker.py", folder, file)
    foretold = step["resident"] - step["at_peak"]["adapter"]
    error = foretold / measured["increase"] - 1
    return {"foretold": foretold, "by_kind": step["at_peak"], **measured, "error": error}


def main() -> int:
    """Measure, write after each step, print what matters."""
    options = arguments().parse_args()
    found: list[dict[str, Any]] = []
    if options.out.exists():
        found = json.loads(options.out.read_text())["steps"]
    with tempfile.TemporaryDirectory() as scratch:
        for model in options.models:
            folder = Path(scratch) / model
            in_a_process("checkpoint.py", "bfloat16", model, folder)
            for activations, length in itertools.product(options.activations, options.lengths):
                asked = {"config": str(folder), "rows": [length], "activations": activations}
                asked |= {"bits": 16, "dtype": "float32"}
                step = {"model": model, "activations": activations, "tokens": length}
                found = [f for f in found if f | step != f]
                found.append(step | compared(folder, asked, Path(scratch)))
                print(said(found[-1]), flush=True)
                worst = max(abs(f["error"]) for f in found)
                result = {"name": "memory", "largest_error": worst, "steps": found}
                write_json(options.out, result | circumstances())
    return 0


def said(step: dict[str, Any]) -> str:
    """Return one line about one step."""
    foretold, took = (step[name] / 1e6 for name in ("foretold", "increase"))
    what = f"{step['model']} {step['activations']} {step['tokens']}"
    return f"{what}: foretold {foretold:.0f} MB, took {took:.0f} MB, {step['error']:+.1%}"


if __name__ == "__main__":
    sys.exit(main())
