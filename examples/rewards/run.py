"""Teach a small model to add by rewards alone (GRPO): nobody shows it an answer.

python examples/rewards/run.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from uses import Use, real_rows

use = Use("rewards")

use.write_rows(real_rows.sums(500), train=300, test=80)
run = use.train(
    method="grpo",
    reward="number",
    num_generations=8,
    batch_size=32,
    max_completion_length=16,
    max_steps=24,
    learning_rate=1e-4,
)
measured = use.evaluate(run, "--metrics", "number", "--max-tokens", "16")
use.write_results(measured, ["number"])
