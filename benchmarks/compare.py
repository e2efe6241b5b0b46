"""Run modes side by side: interleaved, each in a fresh process, several rounds, medians, ratios.

This process stays small: Linux counts the resident size of a parent in the peak of its child.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clock import PROCESSOR
from modes import MODES

from strop.core.files import write_json
from strop.core.system import versions

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "cpu"
LARGEST_LOSS_DIFFERENCE = 1e-4
"""Relative, in any step; a comparison beyond it is void."""
LARGEST_IN_BFLOAT16 = 2e-2
"""The same where a mode computes in bfloat16, which rounds to 3 digits."""
UNSHARED = "strop-unshared"
"""The mode whose presence asks for the floor without sharing, too."""
OF_UNSLOTH = HERE.parent / ".cache" / "unsloth" / "bin" / "python"
"""Python of the environment that has Unsloth, which `make bench-unsloth` makes."""
UNSLOTH = ["env", "HF_HUB_OFFLINE=1", "UNSLOTH_DISABLE_STATISTICS=1", str(OF_UNSLOTH)]
WORKERS = {"trl": "worker.py", "unsloth": "unsloth_worker.py"}
"""The script that measures a mode, by the library whose trainer it is."""
QUIET = 0.05
"""A measurement during which other programs took more of the machine than this is repeated."""
UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""The slower before the faster."""
Measurement = dict[str, Any]


def arguments(description: str) -> argparse.ArgumentParser:
    """Return the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--data", type=Path, default=HERE.parent / ".cache" / "data")
    parser.add_argument("--repeats", type=int, default=2, help="of a disturbed measurement")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="of one core (`taskset -c 1`), where others use the machine",
    )
    parser.add_argument("--without", nargs="+", default=(), help="modes that are left out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser


def in_a_process(script: str, *args: str | Path) -> Measurement:
    """Run a script beside this file and return the JSON of its last line."""
    with tempfile.TemporaryDirectory() as scratch:
        unsloth = script == WORKERS["unsloth"]  # it writes what it compiles where it is run
        done = subprocess.run(
            [*(UNSLOTH if unsloth else [sys.executable]), str(HERE / script), *map(str, args)],
            capture_output=True,
            text=True,
            check=False,
            cwd=scratch if unsloth else None,
        )
    if done.returncode:
        sys.exit(f"{script} {' '.join(map(str, args))} failed:\n{done.stderr[-4000:]}")
    measured: Measurement = json.loads(done.stdout.splitlines()[-1])
    return measured


def busy_seconds() -> float:
    """Return the processor seconds that this machine has spent so far, on whatever."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def children_seconds() -> float:
    """Return the processor seconds of this process and of the children it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def undisturbed(repeats: int, script: str, *args: str | Path) -> Measurement:
    """Measure, and again if other programs ran meanwhile; return the least disturbed."""
    cores = len(os.sched_getaffinity(0))
    tries = []
    for _ in range(1 + repeats):
        began, busy, children = time.perf_counter(), busy_seconds(), children_seconds()
        measured = in_a_process(script, *args)
        others = busy_seconds() - busy - (children_seconds() - children)
        measured["others"] = others / (cores * (time.perf_counter() - began))
        tries.append(measured)
        if measured["others"] <= QUIET:
            break
    return min(tries, key=lambda m: m["others"])


def possible(modes: Sequence[str], without: Sequence[str]) -> tuple[str, ...]:
    """Return the modes that are to be measured and can be here: Unsloth's where its environment is."""
    modes = [mode for mode in modes if mode not in without]
    if OF_UNSLOTH.exists():
        return tuple(modes)
    left = tuple(mode for mode in modes if MODES[mode].library != "unsloth")
    if len(left) < len(modes):
        print("without Unsloth: `make bench-unsloth` makes its environment", flush=True)
    return left


def compare(name: str, modes: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Measure every mode on a workload and return all that was found.

    Returns:
        The rows' token counts; per mode the seconds of a step, the peak RSS above that of bare
        imports, the loss of every step, all medians over rounds; the largest differences of loss
        and gradient norm between modes; the floor; and what the machine is.
    """
    modes = possible(modes, options.without)
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / f"{name}.json"
        model = in_a_process("workloads.py", name, options.model, options.data, rows)["model"]
        workload = json.loads(rows.read_text())
        libraries = sorted({MODES[mode].library for mode in modes})
        bare = {library: in_a_process(WORKERS[library], "imports") for library in libraries}
        imports = {mode: bare[MODES[mode].library]["peak_rss"] for mode in modes}
        rounds = [
            one_round(number, rows, model, imports, options) for number in range(options.rounds)
        ]
    reference = rounds[0][modes[0]]
    differences = {
        mode: differences_of(rounds[0][mode], reference, workload["loss_scale"]) for mode in modes
    }
    return {
        "workload": name,
        "void": any(
            d["loss"] > largest_difference(mode, modes[0]) for mode, d in differences.items()
        ),
        "rounds": options.rounds,
        **({"clock": PROCESSOR} if options.processor_time else {}),
        "tokens": token_counts(workload),
        "rss_of_imports": {library: bare[library]["peak_rss"] for library in libraries},
        "modes": {mode: medians([r[mode] for r in rounds], imports[mode]) for mode in modes},
        **floors(rounds, modes),
        "largest_difference": differences,
        "others": max(m["others"] for r in rounds for m in r.values()),
        "time_ratios": time_ratios(rounds, modes),
        **({"unsloth": bare["unsloth"]["versions"]} if "unsloth" in bare else {}),
        **circumstances(),
    }


def one_round(
    number: int, rows: Path, model: str, imports: dict[str, int], options: argparse.Namespace
) -> dict[str, Measurement]:
    """Measure the floors, then every mode that `imports` names, once."""
    flags = [PROCESSOR] if options.processor_time else []
    kinds = {"floor": ()}
    if any(MODES[mode].dtype == "bfloat16" for mode in imports):
        kinds["floor-bfloat16"] = ("bfloat16",)
    if UNSHARED in imports:
        kinds["floor-unshared"] = ("unshared",)
    measurements = {
        name: undisturbed(options.repeats, "floor.py", rows, model, *flags, *kind)
        for name, kind in kinds.items()
    }
    for mode, bare in imports.items():
        worker = WORKERS[MODES[mode].library]
        measurements[mode] = undisturbed(options.repeats, worker, rows, model, *flags, mode)
        print(summary(number, mode, measurements[mode], bare), flush=True)
    return measurements


def floors(rounds: Sequence[dict[str, Measurement]], modes: Sequence[str]) -> dict[str, Any]:
    """Return the time of the matrix products alone, and how many times that each mode takes."""
    return {
        "floor": {
            "seconds": statistics.median(step_seconds(r["floor"]) for r in rounds),
            "tokens": rounds[0]["floor"]["tokens"],
            "supervised": rounds[0]["floor"]["supervised"],
        },
        **floor_in_bfloat16(rounds),
        "over_floor": {
            mode: statistics.median(
                step_seconds(r[mode]) / step_seconds(r[floor_of(mode)]) for r in rounds
            )
            for mode in modes
        },
        **({"most_by_sharing": most_by_sharing(rounds)} if UNSHARED in modes else {}),
    }


def floor_of(mode: str) -> str:
    """Return the name of the measured floor in the format of a mode."""
    return "floor-bfloat16" if MODES[mode].dtype == "bfloat16" else "floor"


def floor_in_bfloat16(rounds: Sequence[dict[str, Measurement]]) -> dict[str, Any]:
    """Return the seconds of the floor in bfloat16, where it was measured."""
    if "floor-bfloat16" not in rounds[0]:
        return {}
    seconds = statistics.median(step_seconds(r["floor-bfloat16"]) for r in rounds)
    return {"floor_bfloat16": {"seconds": seconds}}


def largest_difference(mode: str, reference: str) -> float:
    """Return how much the losses of two modes may differ."""
    formats = {MODES[mode].dtype, MODES[reference].dtype}
    return LARGEST_IN_BFLOAT16 if "bfloat16" in formats else LARGEST_LOSS_DIFFERENCE


def most_by_sharing(rounds: Sequence[dict[str, Measurement]]) -> float:
    """Return how much faster the matrix products alone become when prefixes are shared."""
    return statistics.median(
        step_seconds(r["floor-unshared"]) / step_seconds(r["floor"]) for r in rounds
    )


def summary(number: int, mode: str, measured: Measurement, imports: int) -> str:
    """Return one line about one measurement."""
    return (
        f"round {number + 1}  {mode:20} {step_seconds(measured):7.2f} s a step  "
        f"{(measured['peak_rss'] - imports) / 1e9:6.2f} GB  others {measured['others']:.0%}"
    )


def step_seconds(measured: Measurement) -> float:
    """Return the mean seconds of the steps after the first."""
    return float(statistics.mean(measured["seconds"][1:]))


def medians(measured: Sequence[Measurement], imports: int) -> dict[str, Any]:
    """Return the medians of one mode over the rounds."""
    return {
        "seconds": statistics.median(step_seconds(m) for m in measured),
        "seconds_of_first_step": statistics.median(m["seconds"][0] for m in measured),
        "rss": statistics.median(m["peak_rss"] for m in measured) - imports,
        "rss_of_training": statistics.median(
            m["peak_rss"] - m["peak_rss_before_training"] for m in measured
        ),
        "loss": measured[0]["loss"],
        "grad_norm": measured[0]["grad_norm"],
        "rounds": [step_seconds(m) for m in measured],
    }


def time_ratios(
    rounds: Sequence[dict[str, Measurement]], modes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return how many times longer each mode takes than each other, median over rounds."""
    return {
        slow: {
            fast: statistics.median(step_seconds(r[slow]) / step_seconds(r[fast]) for r in rounds)
            for fast in modes
            if fast != slow
        }
        for slow in modes
    }


def differences_of(
    measured: Measurement, reference: Measurement, loss_scale: float | None
) -> dict[str, float]:
    """Return the largest relative difference of loss and of gradient norm in any step."""
    return {
        "loss": max(
            abs(a - b) / (loss_scale or abs(b))
            for a, b in zip(measured["loss"], reference["loss"], strict=True)
        ),
        "grad_norm": max(
            abs(a - b) / abs(b)
            for a, b in zip(measured["grad_norm"], reference["grad_norm"], strict=True)
        ),
    }


def token_counts(workload: dict[str, Any]) -> list[int]:
    """Return how many tokens each sequence of the workload has."""
    return [len(ids) for row in workload["sequences"] for ids, _ in row]


def circumstances(*packages: str) -> dict[str, Any]:
    """Return commit, versions, those of further packages too, date and machine."""
    cpu = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "commit": versions.commit(),
        "versions": versions.installed() | {p: importlib.metadata.version(p) for p in packages},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {
            "cpu": cpu,
            "units": units(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        },
    }


def units() -> list[str]:
    """Return the processor's units for vectors and matrices that decide how fast each format is."""
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    return [unit for unit in UNITS if unit in flags]


def kind(machine: dict[str, Any]) -> str:
    """Return the unit that decides how fast a machine's products are, empty where none is recorded."""
    present = machine.get("units", [])
    return next((unit.replace("_", "-") for unit in reversed(UNITS) if unit in present), "")


def best(result: dict[str, Any], among: Sequence[str], by: str) -> str:
    """Return the mode with the smallest median of `by`."""
    return min(among, key=lambda mode: result["modes"][mode][by])


def bests(result: dict[str, Any]) -> dict[str, str]:
    """Return the fastest and the leanest mode of each library that strop is compared with."""
    names: dict[str, str] = {}
    for library in WORKERS:
        among = [m for m in result["modes"] if m.startswith(library)]
        if among:
            names[f"{library}_fastest"] = best(result, among, "seconds")
            names[f"{library}_leanest"] = best(result, among, "rss")
    return names


def save(result: dict[str, Any], out: Path) -> Path:
    """Write a result under the name of its workload; a comparison of modes, of its kind of machine too."""
    machine = f".{kind(result['machine'])}".rstrip(".") if "workload" in result else ""
    path = out / f"{result['name']}{machine}.json"
    write_json(path, result)
    return path
