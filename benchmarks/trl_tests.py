"""TRL's own trainer tests through strop.accelerate: which pass, and whether each step is TRL's own.

    python benchmarks/trl_tests.py CHECKOUT [MODULE …] [--work FOLDER] [--minutes N]

CHECKOUT is a clone of TRL's repository with its tests. Everything runs offline, on models and data that
TRL's own scripts make (`trl_models.py`), under `FOLDER/trl-internal-testing`. What ran is kept in FOLDER
by the digest of strop's code, so that a second call goes on; results lie in
benchmarks/results/cpu/trl_tests.json.
"""

import argparse
import collections
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trl_comparison import ROUNDING, beyond_rounding, errors_of, lines
from trl_models import build, build_data

import strop
from strop.core import versions
from strop.core.files import write_json

HERE = Path(__file__).parent
RESULT = HERE / "results" / "cpu" / "trl_tests.json"
MODULES = ("sft", "dpo", "kto", "grpo", "rloo")
EXACT = 1e-5
"""Errors in float64 up to this count as rounding: norms and heads compute in float32 even then."""


def code() -> str:
    """Return a digest of strop's code."""
    root = Path(str(strop.__file__)).parent
    digest = hashlib.sha256()
    for file in sorted(f for f in root.rglob("*") if f.suffix in (".py", ".cpp", ".h")):
        digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def worst(errors: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the largest errors by name."""
    largest: dict[str, float] = collections.defaultdict(float)
    for one in errors:
        for name, error in one.items():
            largest[name] = max(largest[name], error)
    return dict(largest)


def differing(line: dict[str, Any]) -> dict[str, Any]:
    """Return the errors of a test that are beyond rounding, and those in float64; {} if none is."""
    apart = [c for c in line["compared"] if beyond_rounding(c)]
    if not apart:
        return {}
    errors = worst(errors_of(c) for c in apart)
    double = worst(errors_of(c["float64"]) for c in apart)
    return {
        "errors": {n: e for n, e in errors.items() if not e <= ROUNDING},
        "float64": {n: e for n, e in double.items() if not errors[n] <= ROUNDING},
        "gradient_from_float64": {
            who: max(c["against_float64"][who]["gradient"] for c in apart)
            for who in ("strop", "trl")
        },
        "rounding": all(error <= EXACT for error in double.values()),
    }


def summary(records: Path, module: str) -> dict[str, Any]:
    """Return the counts of a module and each test that fails or differs."""
    ours = lines(records / f"{module}-accelerated.jsonl")
    plain = {line["test"]: line["outcome"] for line in lines(records / f"{module}-plain.jsonl")}
    failed = {line["test"]: line["why"] for line in ours if line["outcome"] == "failed"}
    trained = [line for line in ours if line["compared"] and line["outcome"] == "passed"]
    apart = {line["test"]: differing(line) for line in trained}
    count = records / f"{module}-accelerated.collected"
    return {
        "collected": int(count.read_text()) if count.exists() else 0,
        "ran": len(ours),
        "skipped": sum(line["outcome"] == "skipped" for line in ours),
        "passed": sum(line["outcome"] == "passed" for line in ours),
        "failed_plain_too": [t for t in failed if plain.get(t) == "failed"],
        "failed_accelerated_only": {t: w for t, w in failed.items() if plain.get(t) == "passed"},
        "trained": len(trained),
        "micro_batches": sum(len(line["compared"]) for line in trained),
        "agree": sum(not found for found in apart.values()),
        "differ": {test: found for test, found in apart.items() if found},
        "said": dict(collections.Counter(text for line in trained for text in line["said"])),
    }


def run(folder: Path, record: Path, checkout: Path, module: str, seconds: float) -> None:
    """Run one module in one way for some seconds at most, from where it stopped."""
    way = record.stem.rpartition("-")[2]
    worker = str(HERE / "trl_worker.py")
    env = ["env", "HF_HUB_OFFLINE=1", "HF_HUB_DISABLE_TELEMETRY=1", "OMP_NUM_THREADS=1"]
    with record.with_suffix(".log").open("a") as log:
        try:
            subprocess.run(
                [*env, sys.executable, worker, str(record), way, str(checkout), module],
                cwd=folder,
                stdout=log,
                stderr=log,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            print(f"{module} {way}: stopped for time")


def write(records: Path, refused: dict[str, str], checkout: Path) -> None:
    """Write the results of all modules that ran."""
    modules = {m: summary(records, m) for m in MODULES}
    write_json(
        RESULT,
        {
            "versions": versions.installed(),
            "trl_checkout": (checkout / "VERSION").read_text().strip(),
            "rounding": ROUNDING,
            "exact": EXACT,
            "not_built": refused,
            "modules": {m: found for m, found in modules.items() if found["ran"]},
        },
    )


def main() -> None:
    """Build what is missing, run what has not run, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("modules", nargs="*", default=list(MODULES))
    parser.add_argument("--work", type=Path, default=Path("trl-tests"))
    parser.add_argument("--minutes", type=float, default=600)
    given = parser.parse_args()
    folder, checkout = given.work.resolve(), given.checkout.resolve()
    refused = folder / "not_built.json"
    if not refused.exists():
        folder.mkdir(parents=True, exist_ok=True)
        build_data(checkout, folder)
        write_json(refused, build(checkout, folder))
    records = folder / code()
    records.mkdir(exist_ok=True)
    end = time.monotonic() + 60 * given.minutes
    for way in ("accelerated", "plain"):
        for module in given.modules:
            if (left := end - time.monotonic()) > 1:
                run(folder, records / f"{module}-{way}.jsonl", checkout, module, left)
            write(records, json.loads(refused.read_text()), checkout)


if __name__ == "__main__":
    main()
