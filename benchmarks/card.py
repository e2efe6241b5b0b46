"""Everything that only a card can say, in one command: tests, kernels, steps, memory.

Run as `scripts/measure_on_gpu.sh`, which brings the packages that are missing. Writes
`benchmarks/results/gpu/card.json` after each part, so that nothing measured is lost, and ends in time:
each part has a share of the minutes, and what there was no time for is named. `--dry-run` goes the
same way without a card: kernels are compiled for a fake one, tiny models take their steps on the CPU.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compare import circumstances

from strop.core.files import write_json

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULT = HERE / "results" / "gpu" / "card.json"
TESTED = ("src/strop/ops", "tests/gpu/test_card.py")
SHARES = {"tests": 0.3, "kernels": 0.2, "steps": 0.4}
"""Of the whole time; starting processes and the simulation take the rest."""
FAKE = ("-m", "strop.core.simulated.fake_cuda")
Lines = list[dict[str, Any]]


@dataclasses.dataclass
class Part:
    """A process that prints a line of JSON for each thing it measured."""

    words: Sequence[str]
    folder: Path = HERE
    """In which it runs."""
    errors: Any = dataclasses.field(default_factory=tempfile.TemporaryFile)
    process: Any = None

    def start(self) -> "Part":
        """Start it; it runs beside whatever else does."""
        command = [sys.executable, *self.words]
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        return self

    def lines(self, seconds: float) -> dict[str, Any]:
        """Return what it printed within a time, and how it ended where that was no success."""
        try:
            printed = self.process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            printed = self.process.communicate()[0]
            return {"lines": parsed(printed), "failed": f"stopped after {seconds:.0f} s"}
        if self.process.returncode:
            self.errors.seek(0)
            text = self.errors.read().decode(errors="replace")[-2000:]
            return {"lines": parsed(printed), "failed": text}
        return {"lines": parsed(printed)}


def parsed(printed: str) -> Lines:
    """Return the lines of JSON among what a process printed."""
    return [json.loads(line) for line in printed.splitlines() if line.startswith('{"')]


def card() -> dict[str, Any]:
    """Return name, memory and versions of the card that is here, empty where there is none."""
    import torch

    if not torch.cuda.is_available():
        return {}
    sizes = torch.cuda.get_device_properties(0)
    return {
        "name": sizes.name,
        "memory_gb": round(sizes.total_memory / 1e9, 1),
        "multiprocessors": sizes.multi_processor_count,
        "capability": f"sm_{sizes.major}{sizes.minor}",
        "cuda": torch.version.cuda,
    }


def tests(seconds: float, dry_run: bool) -> dict[str, Any]:
    """Run the tests for a card; return how many passed, and each that failed with its reason."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = ["-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "-W", "default"]
        words += [f"--junitxml={report}", *TESTED]
        words += ["-k", "mixed_product"] if dry_run else []  # each of them is skipped
        ended = Part(words, ROOT).start().lines(seconds)
        if not report.exists():
            return {"failed": ended.get("failed", "no report was written")}
        cases = list(ET.parse(report).iter("testcase"))
    outcomes: dict[str, list[Any]] = {"failure": [], "error": [], "skipped": []}
    for case in cases:
        for outcome, among in outcomes.items():
            if (reason := case.find(outcome)) is not None:
                name = f"{case.get('classname')}.{case.get('name')}"
                among.append({"test": name, "why": reason.get("message", "")[:300]})
    passed = len(cases) - sum(map(len, outcomes.values()))
    failures = outcomes["failure"] + outcomes["error"]
    return {"passed": passed, "skipped": len(outcomes["skipped"]), "failures": failures}


def with_peaks(steps: Lines, simulated: Lines) -> Lines:
    """Return the measured steps, with the peak that was expected where one was."""
    keys = ("model", "bits", "workload", "mode")
    peaks = {tuple(line[k] for k in keys): line["simulated_peak"] for line in simulated}
    expected = ((step, peaks.get(tuple(step[k] for k in keys))) for step in steps)
    return [step | ({"simulated_peak": peak} if peak else {}) for step, peak in expected]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure part after part, writing after each."""
    whole = 60 * options.minutes
    end = time.perf_counter() + whole
    result: dict[str, Any] = {"name": "card", "dry_run": options.dry_run, "card": card()}
    result |= circumstances("triton")
    simulation = Part(["card_steps.py", "simulate"]).start()  # on processors that wait anyway
    parts = {
        "tests": lambda seconds: tests(seconds, options.dry_run),
        "kernels": lambda seconds: (
            Part([*(FAKE if options.dry_run else ()), *kernels(options.dry_run, seconds)])
            .start()
            .lines(seconds)
        ),
        "steps": lambda seconds: (
            Part(["card_steps.py", str(0.85 * seconds)]).start().lines(seconds)
        ),
    }
    for name, run in parts.items():
        started = time.perf_counter()
        result[name] = run(min(SHARES[name] * whole, end - started))
        result[name]["took"] = round(time.perf_counter() - started, 1)
        write_json(options.out, result)
        print(f"{name}: {result[name]['took']} s", flush=True)
    simulated = simulation.lines(max(1.0, end - time.perf_counter()))
    result["steps"]["lines"] = with_peaks(result["steps"]["lines"], simulated["lines"])
    if "failed" in simulated:
        result["simulation"] = simulated["failed"]
    write_json(options.out, result)
    return result


def kernels(dry_run: bool, seconds: float) -> list[str]:
    """Return the words that start the timing of kernels."""
    return ["card_kernels", "0"] if dry_run else ["card_kernels.py", str(0.85 * seconds)]


def main() -> int:
    """Measure; status 1 where a part failed or a test did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="that it may take at most")
    parser.add_argument("--dry-run", action="store_true", help="without a card")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    if not card() and not options.dry_run:
        parser.error("no card is here that PyTorch sees; --dry-run goes the same way without one")
    result = measure(options)
    failed = [name for name in SHARES if "failed" in result[name]]
    failed += ["simulation"] if "simulation" in result else []
    failures = result["tests"].get("failures", [])
    errors = [
        line["operation"] for line in result["kernels"].get("lines", []) if line.get("errors")
    ]
    print(
        f"written to {options.out}; failed parts: {failed}, tests: {len(failures)}, kernels: {errors}"
    )
    return int(bool(failed or failures or errors))


if __name__ == "__main__":
    sys.exit(main())
