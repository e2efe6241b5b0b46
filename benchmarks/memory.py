"""Memory a training step was predicted to need beside what it took, on this machine's CPU.

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


def compared(folder: Path, setup: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Return the predicted and the measured bytes, and the error of the prediction."""
    file = scratch / "setup.json"
    file.write_text(json.dumps(setup))
    step = in_a_process("memory_prediction.py", file)
    measured = in_a_process("memory_worker.py", folder, file)
    predicted = step["resident"] - step["at_peak"]["adapter"]
    error = predicted / measured["increase"] - 1
    return {"foretold": predicted, "by_kind": step["at_peak"], **measured, "error": error}


def main() -> int:
    """Measure, write after each step, print what matters."""
    options = arguments().parse_args()
    steps: list[dict[str, Any]] = []
    if options.out.exists():
        steps = json.loads(options.out.read_text())["steps"]
    with tempfile.TemporaryDirectory() as scratch:
        for model in options.models:
            folder = Path(scratch) / model
            in_a_process("checkpoint.py", "bfloat16", model, folder)
            for activations, length in itertools.product(options.activations, options.lengths):
                setup = {"config": str(folder), "rows": [length], "activations": activations}
                setup |= {"bits": 16, "dtype": "float32"}
                step = {"model": model, "activations": activations, "tokens": length}
                steps = [f for f in steps if f | step != f]
                steps.append(step | compared(folder, setup, Path(scratch)))
                print(summary(steps[-1]), flush=True)
                worst = max(abs(f["error"]) for f in steps)
                result = {"name": "memory", "largest_error": worst, "steps": steps}
                write_json(options.out, result | circumstances())
    return 0


def summary(step: dict[str, Any]) -> str:
    """Return one line about one step."""
    predicted, took = (step[name] / 1e6 for name in ("foretold", "increase"))
    what = f"{step['model']} {step['activations']} {step['tokens']}"
    return f"{what}: predicted {predicted:.0f} MB, took {took:.0f} MB, {step['error']:+.1%}"


if __name__ == "__main__":
    sys.exit(main())
