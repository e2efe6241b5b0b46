"""TRL's own trainer tests through strop.accelerate: outcomes, and the errors of each step.

    python benchmarks/trl_tests.py CHECKOUT [MODULE …] [--work FOLDER] [--minutes N]

CHECKOUT is a clone of TRL's repository with its tests. Everything runs offline, on models and data that
TRL's own scripts make (`trl_models.py`), under `FOLDER/trl-internal-testing`, each test once plain and
once accelerated. What ran is kept in FOLDER by the digest of strop's code, so that a second call goes
on; results lie in benchmarks/results/cpu/trl_tests.json. Tests that are skipped for want of a package
(Pillow and torchvision for images, jmespath) run in a second call that has it.
"""

import argparse
import collections
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trl_comparison import ROUNDING, beyond_rounding, errors_of, lines

import strop
from strop.core.files import write_json
from strop.core.system import versions

HERE = Path(__file__).parent
RESULT = HERE / "results" / "cpu" / "trl_tests.json"
MODULES = ("sft", "dpo", "kto", "grpo", "rloo", "reward")
OFFLINE = ("env", "HF_HUB_OFFLINE=1", "HF_HUB_DISABLE_TELEMETRY=1", "OMP_NUM_THREADS=1")
"""Beginning of a command that asks no hub."""
BOTH = ("strop", "trl")
"""Whose gradients are compared with that of float64."""
TEMPORARY = re.compile(r"/tmp/pytest-of-[^/]+/pytest-\d+/")
"""A place of this machine in a failed test's reason."""
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
    far = [tuple(c["against_float64"][who]["gradient"] for who in BOTH) for c in apart]
    return {
        "errors": {n: e for n, e in errors.items() if not e <= ROUNDING},
        "float64": {n: e for n, e in double.items() if not errors.get(n, 0.0) <= ROUNDING},
        "gradient_from_float64": {
            who: max(distances) for who, distances in zip(BOTH, zip(*far, strict=True), strict=True)
        },
        "micro_batches": len(far),
        "strop_nearer": sum(ours < theirs for ours, theirs in far),
        "rounding": all(error <= EXACT for error in double.values()),
    }


def summary(records: Path, module: str) -> dict[str, Any]:
    """Return the counts of a module and each test that fails or differs."""
    ours = lines(records / f"{module}-accelerated.jsonl")
    plain = lines(records / f"{module}-plain.jsonl")
    outcomes = {t: (plain.get(t, {}).get("outcome"), line["outcome"]) for t, line in ours.items()}
    trained = {t: w for t, w in ours.items() if w["compared"] and w["outcome"] == "passed"}
    apart = {test: differing(line) for test, line in trained.items()}
    count = records / f"{module}-accelerated.collected"

    def reasons(of: dict[str, Any], *pair: str) -> dict[str, str]:
        last = {
            t: of[t]["why"].strip().rpartition("\n")[2] for t, o in outcomes.items() if o == pair
        }
        return {test: TEMPORARY.sub("", line) for test, line in last.items()}

    skipped = [line for line in ours.values() if line["outcome"] == "skipped"]
    messages = [text for line in trained.values() for text in line["messages"]]
    refusals = [line["refusal"] for line in ours.values() if line["refusal"]]
    return {
        "collected": int(count.read_text()) if count.exists() else 0,
        "ran": len(ours),
        "ran_plain": len(plain),
        "slow": sum(line["slow"] for line in ours.values()),
        "slow_outcomes": _counts(line["outcome"] for line in ours.values() if line["slow"]),
        "skipped": len(skipped),
        "skipped_for": _counts(line["why"] for line in skipped),
        "slow_skipped_for": _counts(line["why"] for line in skipped if line["slow"]),
        "passed_plain": sum(line["outcome"] == "passed" for line in plain.values()),
        "passed": sum(line["outcome"] == "passed" for line in ours.values()),
        "failed_plain_too": reasons(ours, "failed", "failed"),
        "failed_accelerated_only": reasons(ours, "passed", "failed"),
        "failed_plain_only": reasons(plain, "failed", "passed"),
        "refused": _counts(refusals),
        "trained": len(trained),
        "micro_batches": sum(len(line["compared"]) for line in trained.values()),
        "agree": sum(not errors for errors in apart.values()),
        "differ": {test: errors for test, errors in apart.items() if errors},
        "messages": _counts(messages),
    }


def _counts(texts: Iterable[str]) -> dict[str, int]:
    """Return how often each text occurs, the commonest first."""
    return dict(collections.Counter(texts).most_common())


def run(folder: Path, record: Path, checkout: Path, module: str, seconds: float) -> None:
    """Run one module in one way for some seconds at most, from where it stopped."""
    way = record.stem.rpartition("-")[2]
    worker = str(HERE / "trl_worker.py")
    with record.with_suffix(".log").open("a") as log:
        try:
            subprocess.run(
                [*OFFLINE, sys.executable, worker, str(record), way, str(checkout), module],
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
            "code": code(),
            "trl_checkout": (checkout / "VERSION").read_text().strip(),
            "rounding": ROUNDING,
            "exact": EXACT,
            "not_built": refused,
            "modules": {m: counts for m, counts in modules.items() if counts["ran"]},
        },
    )


def main() -> None:
    """Build what is missing, run what has not run, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("modules", nargs="*", default=list(MODULES))
    parser.add_argument("--work", type=Path, default=Path("trl-tests"))
    parser.add_argument("--minutes", type=float, default=600)
    options = parser.parse_args()
    folder, checkout = options.work.resolve(), options.checkout.resolve()
    refused = folder / "not_built.json"
    if not refused.exists():
        folder.mkdir(parents=True, exist_ok=True)
        models = [
            sys.executable,
            str(HERE / "trl_models.py"),
            str(checkout),
            str(folder),
            str(refused),
        ]
        subprocess.run([*OFFLINE, *models], cwd=folder, check=True)
    records = folder / code()
    records.mkdir(exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    for way in ("accelerated", "plain"):
        for module in options.modules:
            if (left := end - time.monotonic()) > 1:
                run(folder, records / f"{module}-{way}.jsonl", checkout, module, left)
            write(records, json.loads(refused.read_text()), checkout)


if __name__ == "__main__":
    main()
