"""Teach a small model a house style that rules describe, and measure how often it keeps to them.

python examples/voice/run.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from uses import Use, real_rows

use = Use("voice")

use.write_rows(real_rows.house_style(), train=110, test=60)
run = use.train(epochs=3, batch_size=8, learning_rate=5e-4)
rules = Path(__file__).with_name("rules.yaml")
measured = use.evaluate(run, "--rules", str(rules), "--max-tokens", "64")
use.write_results(measured, ["rules", "rules.max_words", "loss"])
