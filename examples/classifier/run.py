"""Train a classifier of tone, export it, and let a program without strop call it.

python examples/classifier/run.py
"""

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from uses import Use, command, real_rows

import strop

use = Use("classifier")
use.write_rows(real_rows.headlines(), train=400, test=150)
run = use.train(epochs=1, batch_size=16, learning_rate=5e-4)
measured = use.evaluate(run)

(merged,) = strop.export(run, "merged", data=str(use.test_file), out=use.folder / "export")
caller = Path(__file__).with_name("call.py")
words = [sys.executable, str(caller), str(merged.path), str(use.test_file)]
called = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)

predicted = use.folder / "predicted.jsonl"
command("predict", str(run.path), str(use.test_file), "--out", str(predicted), "--overwrite")
answers = [json.loads(line)["answer"] for line in predicted.read_text().splitlines()]
right = [json.loads(line)["completion"] for line in use.test_file.read_text().splitlines()]
use.write_results(
    measured,
    ["accuracy"],
    certified=merged.certificate is not None and merged.certificate.passed,
    called_accuracy=sum(map(str.__eq__, called, right)) / len(right),
    called_as_predicted=sum(map(str.__eq__, called, answers)) / len(right),
)
