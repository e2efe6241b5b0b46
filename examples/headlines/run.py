"""Teach a small model the tone of newspaper sentences, and measure what it gained.

python examples/headlines/run.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from uses import Use, real_rows

use = Use("headlines")

use.write_rows(real_rows.headlines(), train=400, test=150)
run = use.train(epochs=1, batch_size=16, learning_rate=5e-4)
use.write_results(use.evaluate(run), ["accuracy", "macro_f1"])
