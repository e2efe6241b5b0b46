"""Planned and measured peak memory of whole runs, on this machine's CPU.

Run as `python benchmarks/planned_peak.py [CASE ...]`; writes `benchmarks/results/cpu/planned_peak.json`.
Each case is `strop.train` on the packaged SmolLM2-135M in a fresh process; both numbers are those of
its run.json. A case with a limit runs in a control group of that many bytes (Linux, as root).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from compare import RESULTS, circumstances

import strop
from strop.core.files import write_json

DATA = Path(__file__).parents[1] / ".cache" / "data"
MODEL = "smollm2-135m-instruct"
DEMO = {"data": "nyt", "batch_size": 16, "learning_rate": 5e-4, "warmup": 0.06}
LONG = {"data": "text", "tokens": 2000, "max_steps": 1, "limit": 3 << 30}
LEAN = {"data": "text", "tokens": 700, "batch_size": 4, "max_steps": 2}
CASES: dict[str, dict[str, Any]] = {
    "demo": DEMO | {"rows": 1200},
    "demo, 12 steps": DEMO | {"rows": 320, "max_steps": 12},
    "float32": DEMO | {"rows": 320, "max_steps": 6, "dtype": "float32"},
    "16 bits": DEMO | {"rows": 320, "max_steps": 6, "bits": 16},
    "few short rows": DEMO | {"rows": 8, "batch_size": 4, "max_steps": 4},
    "checkpoint": LEAN | {"activations": "checkpoint"},
    "offload": LEAN | {"activations": "offload"},
    "8 rows of 2,000 tokens, 3 GB": LONG | {"batch_size": 8},
    "64 rows of 2,000 tokens, 3 GB": LONG | {"batch_size": 64},
}
"""Settings of each run, its data, and the limit it runs under; bfloat16 where it says nothing else."""
GROUPS = Path("/sys/fs/cgroup/memory")


def arguments() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--out", type=Path, default=RESULTS / "planned_peak.json")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    return parser


def rows(case: dict[str, Any]) -> list[dict[str, str]]:
    """Return the rows that a case trains on, and take what describes them out of it."""
    if case.pop("data") == "nyt":
        lines = (DATA / "nyt.train.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines[: case.pop("rows")]]
    from transformers import AutoTokenizer

    from strop.models.loading import resolve

    tokens = case.pop("tokens")
    tokenizer = AutoTokenizer.from_pretrained(resolve(MODEL))
    ids = tokenizer((DATA / "wiki.txt").read_text(encoding="utf-8")).input_ids
    starts = range(0, len(ids) - tokens, 997)
    return [{"text": tokenizer.decode(ids[i : i + tokens])} for i in starts][: case["batch_size"]]


def train(case: dict[str, Any]) -> dict[str, Any]:
    """Train in this process and return what its record says of memory."""
    limit = case.pop("limit", None)
    if limit is not None:
        group = GROUPS / f"planned_peak_{os.getpid()}"
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        data = rows(case)
        settings = {"dtype": "bfloat16", "held_out": 0} | case
        run = strop.train(data, model=MODEL, out=out, quiet=True, **settings)
        record = run.record
    planned, peak = record["planned"], record["measured"]["peak_memory"]["main"]
    names = ("activations", "micro_batch_tokens")
    return {
        "dtype": record["model"]["dtype"],
        **{name: planned[name] for name in names},
        "limit": limit,
        "planned": planned["peak"],
        "measured": peak,
        "error": planned["peak"] / peak - 1,
    }


def main() -> int:
    """Measure, write after each case, print what matters."""
    options = arguments().parse_args()
    if options.run:
        print(json.dumps(train(dict(CASES[options.run]))))
        return 0
    cases = json.loads(options.out.read_text())["cases"] if options.out.exists() else {}
    for name in options.cases:
        command = [sys.executable, __file__, "--run", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        cases[name] = case = json.loads(done.stdout.splitlines()[-1])
        planned, measured = case["planned"] / 1e6, case["measured"] / 1e6
        print(
            f"{name}: planned {planned:,.0f} MB, measured {measured:,.0f} MB, {case['error']:+.1%}"
        )
        largest = max(abs(case["error"]) for case in cases.values())
        summary = {"name": "planned_peak", "largest_error": largest, "cases": cases}
        write_json(options.out, summary | circumstances())
    return 0


if __name__ == "__main__":
    sys.exit(main())
