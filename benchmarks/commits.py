"""Two checkouts of strop beside each other: the same losses, the same files, no speed lost.

Run as `python benchmarks/commits.py OLD NEW`: two checkouts, each with a `.venv` that imports it.
Steps of every workload are timed in turn, in two processes that live side by side and wait for one
another, so what disturbs the machine disturbs both. Writes `benchmarks/results/cpu/commits.json`.
With `--rows` each checkout trains and exports the same few rows instead, and the files of weights are
compared byte for byte; writes `commit_files.json`.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from compare import RESULTS, circumstances, save
from gguf import GGUFReader

WORKLOADS = (
    ("chats", "strop"),
    ("chats", "strop-lean"),
    ("chats", "strop-held"),
    ("instructions", "strop"),
    ("equal", "strop"),
    ("dpo", "strop"),
    ("grpo", "strop"),
    ("row-2048", "strop-checkpoint"),
)
"""A workload and the mode it runs in, as README has them."""
WAITING = """
import json, sys, time
sys.path.insert(0, sys.argv[1] + "/benchmarks")
import worker
trainers = sys.modules.get("trl_trainers", worker)

class Turns(trainers.Clock):
    def on_step_end(self, args, state, *rest, **kwargs):
        super().on_step_end()
        line = {"seconds": self.ends[-1] - self.ends[-2], "last": state.global_step == state.max_steps}
        print(json.dumps(line), flush=True)
        sys.stdin.readline()
        self.ends[-1] = time.perf_counter()

trainers.Clock = Turns
from pathlib import Path
print(json.dumps(worker.measure(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])), flush=True)
"""
RUN = """
import json, sys
import strop
rows = [json.loads(line) for line in open(sys.argv[2], encoding="utf-8")]
run = strop.train(
    rows, model="smollm2-135m-instruct", out=sys.argv[1], bits=32, max_steps=3, batch_size=4, rank=8, seed=3
)
"""
TELLING = {".safetensors", ".gguf", ".bin"}
"""Files of weights: what the others say may hold dates, times and names that changed."""


class Checkout:
    """A checkout of strop, and a training in it that waits for its turn before every step."""

    def __init__(self, folder: Path) -> None:
        """Take a folder that has `.venv/bin/python`."""
        self.folder = folder
        self.python = folder / ".venv" / "bin" / "python"
        git = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
        self.commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()

    def start(self, rows: Path, model: str, mode: str) -> subprocess.Popen[str]:
        """Start a training; it takes its first step and waits."""
        return subprocess.Popen(
            [self.python, "-c", WAITING, self.folder, rows, model, mode],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def output(self, *args: str | Path) -> str:
        """Return what a script of this checkout prints."""
        done = subprocess.run(
            [self.python, *args], capture_output=True, text=True, check=False, cwd=self.folder
        )
        if done.returncode:
            sys.exit(f"{self.commit}: {' '.join(map(str, args))[:200]}\n{done.stderr[-3000:]}")
        return done.stdout


def line(stream: IO[str] | None) -> dict[str, Any]:
    """Return the next line of JSON; what libraries print between is passed over."""
    assert stream is not None
    for text in stream:
        if text.startswith('{"'):  # the trainers print dictionaries of Python
            answer: dict[str, Any] = json.loads(text)
            return answer
    sys.exit("a training ended before its last step")


def in_turn(
    old: Checkout, new: Checkout, name: str, mode: str, data: Path, rounds: int
) -> dict[str, Any]:
    """Time every step of a workload in both checkouts, in turn."""
    seconds: dict[str, list[float]] = {"old": [], "new": []}
    losses: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        script = old.folder / "benchmarks" / "workloads.py"
        printed = old.output(script, name, "smollm2-135m-instruct", data, rows)
        model = json.loads(printed.splitlines()[-1])["model"]
        for order in [("old", "new"), ("new", "old")][:rounds]:
            runs = {
                which: (old if which == "old" else new).start(rows, model, mode) for which in order
            }
            warm_up = [line(run.stdout)["last"] for run in runs.values()]
            last = all(warm_up)
            while not last:
                for which in order:
                    stdin = runs[which].stdin
                    assert stdin is not None
                    stdin.write("\n")
                    stdin.flush()
                    step = line(runs[which].stdout)
                    seconds[which].append(step["seconds"])
                    last = step["last"]
                order = order[::-1]
            for which, run in runs.items():
                losses[which] = json.loads(run.communicate("\n")[0].splitlines()[-1])["loss"]
    pairs = zip(seconds["old"], seconds["new"], strict=True)
    return {
        "workload": name,
        "mode": mode,
        "seconds": seconds,
        "ratio": statistics.median(b / a for a, b in pairs),
        "same_losses": losses["old"] == losses["new"],
        "losses": losses,
    }


def weights(file: Path) -> bytes:
    """Return the bytes of a file; of GGUF its tensors, as its metadata names models and licences."""
    if file.suffix != ".gguf":
        return file.read_bytes()
    parts = [(t.name, t.tensor_type.name, t.data.tobytes()) for t in GGUFReader(file).tensors]
    return b"".join(f"{name} {kind} ".encode() + content for name, kind, content in sorted(parts))


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of weights in a folder, by its name."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(weights(file)).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.suffix in TELLING
    }


def files(checkout: Checkout, data: Path, out: Path) -> dict[str, str]:
    """Train, merge and export the same rows; return the digests of the weights."""
    run = out / "run"
    checkout.output("-c", RUN, run, data)
    strop = checkout.folder / ".venv" / "bin" / "strop"
    exports = ("--to", "merged,gguf", "--quant", "q8_0", "--no-certify", "--out", out / "exports")
    checkout.output(strop, "export", run, *exports)
    return digests(out)


def compare_files(old: Checkout, new: Checkout, rows: Path, out: Path) -> int:
    """Compare the weights that both train and export; status 1 where a file differs."""
    with tempfile.TemporaryDirectory() as folder:
        one, two = (files(c, rows, Path(folder) / c.commit) for c in (old, new))
    result = {"name": "commit_files", "old": old.commit, "new": new.commit}
    print(save(result | {"files": {"old": one, "new": two}} | circumstances(), out))
    same = sorted(one.values()) == sorted(two.values())
    print(f"{len(one)} and {len(two)} files of weights, the same: {same}")
    return int(not same)


def main() -> int:
    """Compare and write the results; status 1 where a loss or a file differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rounds", type=int, choices=(1, 2), default=2)
    parser.add_argument("--workloads", nargs="*", choices=sorted({name for name, _ in WORKLOADS}))
    parser.add_argument("--data", type=Path, default=Path(".cache/data"))
    parser.add_argument(
        "--rows", type=Path, help="JSONL that both train and export, instead of the steps"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    old, new = Checkout(options.old.absolute()), Checkout(options.new.absolute())
    if options.rows:
        return compare_files(old, new, options.rows.absolute(), options.out)
    steps = []
    for name, mode in WORKLOADS:
        if options.workloads and name not in options.workloads:
            continue
        step = in_turn(old, new, name, mode, options.data.absolute(), options.rounds)
        steps.append(step)
        print(name, mode, f"{step['ratio']:.3f}, same losses: {step['same_losses']}", flush=True)
    result = {"name": "commits", "old": old.commit, "new": new.commit, "steps": steps}
    result |= circumstances()
    print(save(result, options.out))
    return int(not all(step["same_losses"] for step in steps))


if __name__ == "__main__":
    sys.exit(main())
