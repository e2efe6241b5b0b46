"""Run the trials that the command line names."""

import argparse
import dataclasses
import importlib
import json
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.trials.materials import Materials, import_everything
from benchmarks.trials.runner import TrialError
from benchmarks.trials.summary import read_log, write

PARTS = (
    *("kills", "load", "runs", "models", "caches", "gguf", "rows", "disk", "memory"),
    *("server", "network", "hostile"),
)
LOG = Path(".cache/trials.jsonl")


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """One attempt."""

    name: str
    attempt: Callable[[Materials, str, random.Random], None]
    """Raises `TrialError`; takes the materials, its name, and chance that depends on the name alone."""


def trials(part: str) -> Iterator[Trial]:
    """Yield the trials of a part, in its order."""
    module = importlib.import_module(f"benchmarks.trials.{part}")
    for name, attempt in module.trials():
        yield Trial(f"{part}/{name}", attempt)


def run(trial: Trial, materials: Materials, seed: int) -> dict[str, Any]:
    """Return what became of one trial."""
    begin = time.monotonic()
    verdict: dict[str, Any] = {"name": trial.name, "verdict": "passed"}
    try:
        trial.attempt(materials, trial.name, random.Random(f"{seed} {trial.name}"))
    except TrialError as e:
        verdict |= {"verdict": "failed", "kind": e.kind, "why": e.why}
    except Exception:  # noqa: BLE001  # a trial that is wrong itself must not end the others
        text = traceback.format_exc().strip().splitlines()
        verdict |= {"verdict": "invalid", "kind": "trial", "why": " | ".join(text[-3:])}
    return verdict | {"seconds": round(time.monotonic() - begin, 2)}


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trials")
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--count", type=int, help="trials of each part; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", default=[], help="a trial by its name")
    parser.add_argument("--again", action="store_true", help="also those that did not pass")
    parser.add_argument("--share", default="0/1", help="0/2 and 1/2 are halves of all trials")
    parser.add_argument("--work", type=Path, help="folder whose materials are used again")
    parser.add_argument("--log", type=Path, help=f"default: {LOG}; none with --only")
    parser.add_argument(
        "--write", type=Path, nargs="+", metavar="LOG", help="write the results file from logs"
    )
    return parser.parse_args()


def chosen(given: argparse.Namespace) -> list[Trial]:
    """Return the trials that the command line names and the log has not."""
    share, shares = map(int, given.share.split("/"))
    parts = given.parts or ({n.split("/")[0] for n in given.only} if given.only else PARTS)
    every = [t for part in parts for t in list(trials(part))[: given.count]]
    if given.only:
        return [t for t in every if t.name in given.only]
    done = read_log(given.log or LOG)
    over = {n for n, line in done.items() if line["verdict"] == "passed" or not given.again}
    return [t for i, t in enumerate(every) if i % shares == share and t.name not in over]


def main() -> None:
    """Run trials and write their verdicts."""
    given = arguments()
    if given.write:
        results = write(given.write, given.seed, {part: len(list(trials(part))) for part in PARTS})
        print(
            f"{len(results['failed'])} of {sum(p['trials'] for p in results['parts'].values())} failed"
        )
        return
    todo = chosen(given)
    log = given.log or (None if given.only else LOG)
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    sys.path[:] = [entry for entry in sys.path if entry not in ("", ".")]
    import_everything()
    torch.set_num_threads(1)  # as OMP_NUM_THREADS says to the new interpreters of some trials
    from strop.core.system.versions import commit

    with tempfile.TemporaryDirectory(prefix="strop-trials-") as scratch:
        materials = Materials(given.work or Path(scratch))
        for trial in todo:
            verdict = run(trial, materials, given.seed) | {"commit": commit()}
            if log is not None:
                with log.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(verdict, ensure_ascii=False) + "\n")
            mark = verdict["verdict"] if verdict["verdict"] == "passed" else verdict["kind"].upper()
            print(f"{mark:12} {verdict['seconds']:6.1f} s  {trial.name}  {verdict.get('why', '')}")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
