"""A sample of the trials of benchmarks/trials passes; docs/durability.md has all of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SAMPLE = (
    *("kills/train-0", "kills/train-3", "kills/quantize-0", "kills/eval-0"),
    *("runs/stopped-1", "runs/stopped-5", "runs/finished-2", "runs/finished-3", "runs/moved-0"),
    *("models/folder-2", "models/folder-12", "caches/train-0", "gguf/file-0", "gguf/export-0"),
    *("rows/file-0", "rows/file-1", "rows/file-4", "rows/file-11", "disk/quota-0"),
    *("memory/large-words-3", "server/field-messages", "server/random-0", "server/odd-no HTTP"),
)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="trials limit processes as Linux does")
def test_a_sample_of_the_trials_passes(tmp_path):
    only = [argument for name in SAMPLE for argument in ("--only", name)]
    command = [sys.executable, "-m", "benchmarks.trials", "--log", str(tmp_path / "log"), *only]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    verdicts = {line["name"]: line["verdict"] for line in map(json.loads, lines)}
    assert verdicts == dict.fromkeys(SAMPLE, "passed"), ended.stdout + ended.stderr
