"""Time rounding columns: python -m strop.ops.round_columns.bench_round_columns."""

import statistics
import time

from strop.ops.round_columns import IMPLS, round_columns
from strop.ops.round_columns.cases import TIMED

ROUNDS = 9

if __name__ == "__main__":
    for case in TIMED:
        inputs = case.inputs("cpu")
        seconds: dict[str, list[float]] = {impl.name: [] for impl in IMPLS}
        for _ in range(ROUNDS):
            for name, times in seconds.items():
                start = time.perf_counter()
                round_columns(*inputs, impl=name)
                times.append(time.perf_counter() - start)
        each = {name: statistics.median(t) / inputs[0].numel() for name, t in seconds.items()}
        shown = ", ".join(f"{name} {1e9 * s:.1f}" for name, s in each.items())
        print(f"{case}: {shown} nanoseconds a weight", flush=True)
