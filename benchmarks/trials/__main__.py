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

from benchmarks.trials.materials import Materials, import_everything
from benchmarks.trials.runner import TrialError

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


def read_log(path: Path) -> dict[str, dict[str, Any]]:
    """Return the newest line of each trial."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {line["name"]: line for line in map(json.loads, lines)}


def main() -> None:
    """Run trials and write their verdicts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trials")
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--count", type=int, help="trials of each part; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", default=[], help="a trial by its name")
    parser.add_argument("--again", action="store_true", help="also those that did not pass")
    parser.add_argument("--share", default="0/1", help="0/2 and 1/2 are halves of all trials")
    parser.add_argument("--work", type=Path, help="folder whose materials are used again")
    parser.add_argument("--log", type=Path, default=LOG)
    given = parser.parse_args()
    share, shares = map(int, given.share.split("/"))
    parts = given.parts or ({n.split("/")[0] for n in given.only} if given.only else PARTS)
    todo = [t for part in parts for t in list(trials(part))[: given.count]]
    todo = [t for i, t in enumerate(todo) if i % shares == share]
    if given.only:
        todo = [t for t in todo if t.name in given.only]
    else:
        done = read_log(given.log)
        passed = {n for n, line in done.items() if line["verdict"] == "passed" or not given.again}
        todo = [t for t in todo if t.name not in passed]
    given.log.parent.mkdir(parents=True, exist_ok=True)
    sys.path[:] = [entry for entry in sys.path if entry not in ("", ".")]
    import_everything()
    from strop.core.system.versions import commit

    with tempfile.TemporaryDirectory(prefix="strop-trials-") as scratch:
        materials = Materials(given.work or Path(scratch))
        for trial in todo:
            verdict = run(trial, materials, given.seed) | {"commit": commit()}
            if not given.only:
                with given.log.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(verdict, ensure_ascii=False) + "\n")
            mark = verdict["verdict"] if verdict["verdict"] == "passed" else verdict["kind"].upper()
            print(f"{mark:12} {verdict['seconds']:6.1f} s  {trial.name}  {verdict.get('why', '')}")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
