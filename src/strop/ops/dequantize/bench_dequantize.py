"""Time dequantisation: python -m strop.ops.dequantize.bench_dequantize."""

import statistics
import time

import torch

from strop.ops.dequantize import IMPLS, dequantize
from strop.ops.dequantize.cases import TIMED

ROUNDS = 15

if __name__ == "__main__":
    for case in TIMED:
        weight = case.weight()
        for dtype in (torch.float32, torch.bfloat16):
            out = torch.empty(weight.shape, dtype=dtype)
            able = [i.name for i in IMPLS if i.obstacle(weight.codes, out) is None]
            seconds: dict[str, list[float]] = {name: [] for name in able}
            for _ in range(ROUNDS):
                for name, times in seconds.items():
                    start = time.perf_counter()
                    dequantize(weight, out=out, impl=name)
                    times.append(time.perf_counter() - start)
            speeds = {name: out.numel() / statistics.median(t) / 1e9 for name, t in seconds.items()}
            shown = ", ".join(f"{name} {speed:.2f}" for name, speed in speeds.items())
            print(f"{case} to {dtype}: {shown} thousand million weights a second", flush=True)
