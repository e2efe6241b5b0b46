"""Teach a small model to return the entities of loan agreements as JSON, and measure what it gained.

python examples/extraction/run.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from uses import Use, real_rows

use = Use("extraction")

use.write_rows(real_rows.loans(), train=150, test=60)
run = use.train(epochs=2, batch_size=8, learning_rate=5e-4)
measured = use.evaluate(run, "--max-tokens", "64")
use.write_results(measured, ["json_valid", "json_fields", "exact_match"])
