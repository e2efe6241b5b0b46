"""Teach a small model which answers are preferred (DPO), and measure how often it agrees.

python examples/preferences/run.py
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from uses import Use, real_rows, shares, write_jsonl

import strop

use = Use("preferences")
pairs = [row for row in real_rows.preferences() if sum(map(len, row.values())) < 2600]
use.write_rows(pairs, train=len(pairs) // 2, test=len(pairs) // 2)
run = use.train(epochs=3, batch_size=8, learning_rate=5e-5)


def log_probs(side: str) -> dict[str, list[float]]:
    """Return each model's log-probability of the answers of one side."""
    rows = [json.loads(line) for line in use.test_file.read_text(encoding="utf-8").splitlines()]
    file = use.folder / f"{side}.jsonl"
    write_jsonl(file, [{"prompt": row["prompt"], "completion": row[side]} for row in rows])
    strop.evaluation.compare(run, file, metrics=strop.evaluation.Metrics(names=("loss",)))
    lines = [json.loads(line) for line in run.evaluation_rows_file.read_text().splitlines()]
    return {part: [-line[part]["loss"] for line in lines] for part in ("base", "tuned")}


chosen, rejected = log_probs("chosen"), log_probs("rejected")
before, after = (
    [better > worse for better, worse in zip(chosen[part], rejected[part], strict=True)]
    for part in ("base", "tuned")
)
use.write_results(shares(before, after, "prefers_chosen"), ["prefers_chosen"])
