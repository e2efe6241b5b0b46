"""Predicted against measured memory and time of whole runs, on this machine's CPU.

Run as `python benchmarks/prediction.py [--minutes 8] [CASE ...]`; writes
`benchmarks/results/cpu/prediction.json` after each case and goes on where it stopped. Each case is
`strop.train` in a fresh process; predicted is what its plan says before the first step, measured the
most resident memory as the operating system counts it and the seconds of the steps, of which only the
last writes a checkpoint.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from compare import RESULTS, circumstances

import strop
from strop.core.files import write_json

DATA = Path(__file__).parents[1] / ".cache" / "data"
MODELS = {
    "smollm2-135m-instruct": (16, 4, 32),
    "gemma-3-270m": (16, 32),
    "qwen2.5-coder-0.5b-instruct": (16, 32),
}
"""Bits of the weights of each model; fitting the larger ones to 4 bits takes many minutes."""
SHAPES: dict[str, dict[str, Any]] = {
    "short": {"data": "nyt", "batch_size": 12, "max_steps": 8},
    "short, rank 64": {"data": "nyt", "batch_size": 12, "max_steps": 6, "rank": 64},
    "pairs": {"data": "pairs", "batch_size": 4, "max_steps": 4, "micro_batch_tokens": 8192},
    "keep": {"data": "text", "tokens": 400, "batch_size": 4, "max_steps": 4, "activations": "keep"},
    "checkpoint": {
        "data": "text", "tokens": 400, "batch_size": 4, "max_steps": 4, "activations": "checkpoint",
    },
    "offload": {
        "data": "text", "tokens": 400, "batch_size": 4, "max_steps": 4, "activations": "offload",
    },
    "long in parts": {
        "data": "text", "tokens": 1000, "batch_size": 2, "max_steps": 4, "micro_batch_tokens": 1024,
    },
}  # fmt: skip
CASES = {
    f"{model}, {bits} bits, {shape}": {"model": model, "bits": bits} | settings
    for shape, settings in SHAPES.items()
    for model, of_model in MODELS.items()
    for bits in of_model
}
"""Settings of each run and its data; cases of one shape follow one another."""


def arguments() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=[], metavar="CASE", help="parts of names")
    parser.add_argument("--out", type=Path, default=RESULTS / "prediction.json")
    parser.add_argument("--minutes", type=float, default=8.0, help="begin no case after so many")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    return parser


def rows(case: dict[str, Any]) -> list[dict[str, str]]:
    """Return the rows that a case trains on, and take what describes them out of it."""
    kind = case.pop("data")
    if kind == "nyt":
        lines = (DATA / "nyt.train.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines[: case["batch_size"] * case["max_steps"]]]
    count = case["batch_size"] * case["max_steps"]
    words = (DATA / "wiki.txt").read_text(encoding="utf-8").split()
    if kind == "pairs":
        return [
            {
                "prompt": " ".join(words[i : i + 40]),
                "chosen": " ".join(words[i + 40 : i + 90]),
                "rejected": " ".join(words[i + 9_000 : i + 9_040]),
            }
            for i in range(0, 100 * count, 100)
        ]
    length = int(case.pop("tokens") * 0.7)  # words have more than one token
    return [{"text": " ".join(words[i : i + length])} for i in range(0, 900 * count, 900)]


def train(case: dict[str, Any]) -> dict[str, Any]:
    """Train in this process and return what was predicted and measured."""
    with tempfile.TemporaryDirectory() as scratch:
        data = rows(case)
        run = strop.train(
            data, out=Path(scratch) / "run", held_out=0, save_every=case["max_steps"], **case
        )
        record, log = run.record, run.log
    times = [line["seconds"] for line in log if "loss" in line]
    steps = [b - a for a, b in itertools.pairwise(times)]
    peak, seconds = record["planned"]["peak"], record["forecast"]["step_seconds"]
    measured = {
        "peak": record["measured"]["peak_memory"]["main"],
        "step_seconds": statistics.fmean(steps),
    }
    return {
        "dtype": record["model"]["dtype"],
        "activations": record["planned"]["activations"],
        "predicted": {"peak": peak, "step_seconds": seconds},
        "measured": measured,
        "memory_error": peak / measured["peak"] - 1,
        "time_error": seconds / measured["step_seconds"] - 1,
    }


def main() -> int:
    """Measure the cases that are left, write after each, print what matters."""
    options = arguments().parse_args()
    if options.run:
        print(json.dumps(train(dict(CASES[options.run]))))
        return 0
    cases = json.loads(options.out.read_text())["cases"] if options.out.exists() else {}
    end = time.monotonic() + 60 * options.minutes
    for name in CASES:
        named = any(part in name for part in options.cases)
        if time.monotonic() > end or (options.cases and not named) or (name in cases and not named):
            continue
        command = [sys.executable, __file__, "--run", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        cases[name] = case = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{name}: memory {case['memory_error']:+.1%}, time {case['time_error']:+.1%}",
            flush=True,
        )
        write_json(
            options.out, {"name": "prediction", **summary(cases), "cases": cases} | circumstances()
        )
    return 0


def summary(cases: dict[str, Any]) -> dict[str, Any]:
    """Return the middle and the largest error of each kind."""
    errors = {k: [abs(c[f"{k}_error"]) for c in cases.values()] for k in ("memory", "time")}
    return {
        "runs": len(cases),
        **{f"{k}_median_error": statistics.median(e) for k, e in errors.items()},
        **{f"{k}_largest_error": max(e) for k, e in errors.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
