"""Teach a small model the class of software licences, and measure what it gained.

python examples/legal/run.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from uses import Use, real_rows

use = Use("legal")

use.write_rows(real_rows.licences(), train=120, test=80)
run = use.train(epochs=1, batch_size=8, learning_rate=5e-4)
use.write_results(use.evaluate(run), ["accuracy", "macro_f1"])
