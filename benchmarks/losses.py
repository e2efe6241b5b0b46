"""Losses of 50 steps in bfloat16 beside those in float32: is there a bias, and is it TRL's?

Run as `python benchmarks/losses.py`; writes `benchmarks/results/cpu/losses.json`. Every mode trains on
the same rows in the same order, so step by step only rounding differs.
"""

import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from compare import Measurement, arguments, circumstances, in_a_process, save

WORKLOAD = "chats-50"
REFERENCE, MODES_COMPARED = "strop", ("strop-bfloat16", "trl-rows-bfloat16")
T_QUANTILE = 2.01
"""Of Student's t with 49 degrees of freedom, for an interval of 95 %."""


def difference(losses: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """Return the mean difference of paired losses with its 95 % interval, and its spread."""
    each = [a - b for a, b in zip(losses, reference, strict=True)]
    mean, spread = statistics.mean(each), statistics.stdev(each)
    half = T_QUANTILE * spread / math.sqrt(len(each))
    return {"mean": mean, "low": mean - half, "high": mean + half, "spread": spread}


def main() -> int:
    """Measure every mode once and write the differences."""
    options = arguments(__doc__ or "").parse_args()
    measured: dict[str, Measurement] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        model = in_a_process("workloads.py", WORKLOAD, options.model, options.data, rows)["model"]
        for mode in (REFERENCE, *MODES_COMPARED):
            measured[mode] = in_a_process("worker.py", rows, model, mode)
            print(f"{mode:20} {statistics.mean(measured[mode]['loss']):.4f}", flush=True)
    reference = measured[REFERENCE]["loss"]
    result = {
        "name": "losses",
        "trained_on": WORKLOAD,
        "reference": {"mode": REFERENCE, "loss": reference},
        "modes": {
            mode: {"loss": measured[mode]["loss"], **difference(measured[mode]["loss"], reference)}
            for mode in MODES_COMPARED
        },
        **circumstances(),
    }
    print(save(result, options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
