"""TRL's own trainer tests through strop.accelerate: which pass, and whether each step is TRL's own.

    python benchmarks/trl_tests.py CHECKOUT [MODULE …] [--work FOLDER] [--minutes N]

CHECKOUT is a clone of TRL's repository with its tests. Everything runs offline, on models and data that
TRL's own scripts make (`trl_models.py`), under `FOLDER/trl-internal-testing`. What ran is kept in FOLDER,
so that a second call goes on; results lie in benchmarks/results/cpu/trl_tests.json.
"""

import argparse
import collections
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from trl_models import build, build_data

from strop.core import versions
from strop.core.files import write_json

HERE = Path(__file__).parent
RESULT = HERE / "results" / "cpu" / "trl_tests.json"
MODULES = ("dpo", "kto", "rloo", "sft", "grpo")
ROUNDING = 1e-4
"""Errors up to this count as rounding: of the gradient relative to its norm, else to max(1, |x|)."""
NOT_NUMBERS = ("accuracies", "accuracy")
"""Metrics that count which of two numbers is larger: where both are equal, rounding decides."""


def lines(folder: Path, module: str, way: str) -> list[dict[str, Any]]:
    """Return what a module's tests did in one way."""
    file = folder / f"{module}-{way}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def worst(compared: list[dict[str, Any]]) -> dict[str, float]:
    """Return the largest error of loss, gradient and metrics over the micro-batches of a test."""
    found: dict[str, float] = collections.defaultdict(float)
    for one in compared:
        metrics = {n: e for n, e in one["metrics"].items() if not n.endswith(NOT_NUMBERS)}
        for name, error in {"loss": one["loss"], "gradient": one["gradient"], **metrics}.items():
            found[name] = max(found[name], error)
    return dict(found)


def differing(line: dict[str, Any]) -> dict[str, float]:
    """Return the errors of a test that are beyond rounding, by name."""
    # A gradient of nothing is rounding alone: its norm says so.
    real = [c for c in line["compared"] if c["norm"] > 1e-7 or c["gradient"] == 0.0]
    return {n: e for n, e in worst(real).items() if not e <= ROUNDING}


def summary(folder: Path, module: str, collected: int) -> dict[str, Any]:
    """Return the counts of a module and each test that fails or differs."""
    ours = lines(folder, module, "accelerated")
    plain = {line["test"]: line for line in lines(folder, module, "plain")}
    failed = [line for line in ours if line["outcome"] == "failed"]
    only = [f for f in failed if plain.get(f["test"], {}).get("outcome") == "passed"]
    trained = [line for line in ours if line["compared"] and line["outcome"] == "passed"]
    apart = {line["test"]: differing(line) for line in trained}
    return {
        "collected": collected,
        "ran": len(ours),
        "skipped": sum(line["outcome"] == "skipped" for line in ours),
        "passed": sum(line["outcome"] == "passed" for line in ours),
        "failed": len(failed),
        "failed_plain_too": sum(
            plain.get(f["test"], {}).get("outcome") == "failed" for f in failed
        ),
        "failed_accelerated_only": {f["test"]: f["why"] for f in only},
        "trained": len(trained),
        "micro_batches": sum(len(line["compared"]) for line in trained),
        "agree": sum(not errors for errors in apart.values()),
        "differ": {test: errors for test, errors in apart.items() if errors},
        "said": dict(collections.Counter(text for line in trained for text in line["said"])),
    }


def run(folder: Path, way: str, checkout: Path, module: str, seconds: float) -> None:
    """Run one module in one way for some seconds at most, from where it stopped."""
    command = [sys.executable, str(HERE / "trl_worker.py"), str(folder), way, str(checkout), module]
    log = (folder / f"{module}-{way}.log").open("a")
    env = ["env", "HF_HUB_OFFLINE=1", "HF_HUB_DISABLE_TELEMETRY=1", f"PYTHONPATH={HERE}"]
    try:
        subprocess.run(
            [*env, *command], cwd=folder, stdout=log, stderr=log, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"{module} {way}: stopped for time")


def collected(folder: Path, checkout: Path, module: str) -> int:
    """Return how many tests a module's run found."""
    file = folder / f"{module}.collected"
    return int(file.read_text()) if file.exists() else 0


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
    end = time.monotonic() + 60 * given.minutes
    for module in given.modules:
        for way in ("accelerated", "plain"):
            if (left := end - time.monotonic()) > 1:
                run(folder, way, checkout, module, left)
    modules = {m: summary(folder, m, collected(folder, checkout, m)) for m in MODULES}
    write_json(
        RESULT,
        {
            "versions": versions.installed(),
            "trl_checkout": (checkout / "VERSION").read_text().strip(),
            "rounding": ROUNDING,
            "not_built": json.loads(refused.read_text()),
            "modules": {m: found for m, found in modules.items() if found["ran"]},
        },
    )


if __name__ == "__main__":
    main()
