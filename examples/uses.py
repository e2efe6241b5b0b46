"""What the examples share: rows in files, a training, measures before and after, a results file."""

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import fetch
import real_rows
import torch
from compare import circumstances

import strop
from strop.core.files import write_json
from strop.metrics.intervals import Scores, interval, paired, ratio

__all__ = ["MODEL", "Use", "command", "real_rows", "shares", "write_jsonl"]
MODEL = "smollm2-135m-instruct"
ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "examples"
Rows = list[dict[str, Any]]


class Use:
    """A use of fine-tuning: its files, its run, and what was measured of both models."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path("runs") / "examples" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.train_file, self.test_file = self.folder / "train.jsonl", self.folder / "test.jsonl"
        fetch.install(MODEL)

    def write_rows(self, rows: Rows, *, train: int, test: int) -> None:
        """Shuffle rows, and write some to train on and others to measure on."""
        random.Random(0).shuffle(rows)
        parts = {self.test_file: rows[:test], self.train_file: rows[test : test + train]}
        for file, part in parts.items():
            write_jsonl(file, part)
            print(f"{self.name}: {len(part)} rows in {file}")

    def train(self, data: Path | None = None, **settings: Any) -> strop.Run:
        """Train on the rows, or on other data, and return the run."""
        data = data or self.train_file
        self.trained_on = len(data.read_text(encoding="utf-8").splitlines())
        run = strop.train(
            data,
            out=self.folder / "run",
            **{"model": MODEL, "bits": 16, "overwrite": True, "held_out": 0} | settings,
        )
        if not run.finished:
            raise SystemExit(f"{self.name}: the training was interrupted; nothing is measured")
        return run

    def evaluate(self, run: strop.Run, *flags: str) -> dict[str, Any]:
        """Return what `strop eval` measures of the run and its base on the rows to measure on."""
        return command("eval", str(run.path), str(self.test_file), "--no-forgetting", *flags)

    def write_results(
        self, measured: dict[str, Any], measures: Sequence[str], **further: Any
    ) -> None:
        """Write measures before and after with their paired difference, and print them."""
        kept = {
            name: {part: measured[part][name] for part in ("base", "tuned", "difference")}
            for name in measures
        }
        results = {
            "model": MODEL,
            "trained_on": self.trained_on,
            "measured_on": measured["base"]["rows"],
            "measures": kept,
            **further,
            **circumstances(),
        }
        RESULTS.mkdir(parents=True, exist_ok=True)
        write_json(RESULTS / f"{self.name}.json", results)
        for name, of in kept.items():
            gained = of["difference"]
            print(
                f"{name}: {of['base']['value']:.3f} before, {of['tuned']['value']:.3f} after, difference "
                f"{gained['value']:+.3f} (95 % interval {gained['low']:+.3f} to {gained['high']:+.3f})"
            )


def command(*words: str) -> dict[str, Any]:
    """Return what a command of strop prints with `--json`.

    Raises:
        CalledProcessError: it failed; its message is on standard error.
    """
    words = (sys.executable, "-m", "strop", *words, "--json")
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def shares(before: Sequence[bool], after: Sequence[bool], name: str) -> dict[str, Any]:
    """Return the shares of rows that each model has right, and their paired difference."""
    clusters = torch.arange(len(before))
    scores = [
        Scores(
            torch.tensor([[float(right), 1.0] for right in rows], dtype=torch.float64),
            ratio,
            share=True,
            right=True,
        )
        for rows in (before, after)
    ]
    measured: dict[str, Any] = {}
    for part, of in zip(("base", "tuned"), scores, strict=True):
        low, high = interval(of, clusters, seed=0) or (None, None)
        share = {"value": of.total(), "low": low, "high": high}
        measured[part] = {name: share, "rows": len(before)}
    difference = paired(*scores, clusters, seed=0)
    measured["difference"] = {
        name: {key: getattr(difference, key) for key in ("value", "low", "high", "p")}
    }
    return measured


def write_jsonl(file: Path, rows: Rows) -> None:
    """Write rows, one a line."""
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
