"""Pace of this machine now: seconds of one fixed matrix product.

A machine that others share does the same step a quarter faster or slower within minutes. A product of
the same number format follows it: over four minutes on two cores the seconds of a step of SmolLM2-135M
varied by 8 % (median deviation, bfloat16), divided by those of the product by 4 %.
"""

import statistics
import time

import torch

TOKENS, WIDTH, INNER = 768, 576, 1536
"""Sizes of the product: a micro-batch through a layer of SmolLM2-135M."""
REPEATED = 6
"""Products that are timed together, some milliseconds."""
ROUNDS, FEWEST, SECONDS = 15, 3, 0.4
"""Most and fewest rounds, and seconds after which there is no further one."""


def product_seconds(dtype: torch.dtype) -> float:
    """Return the seconds of a product of 768 x 576 and 576 x 1536 numbers, the median of its rounds."""
    with torch.inference_mode():
        rows, weights = (
            torch.ones(TOKENS, WIDTH, dtype=dtype),
            torch.ones(WIDTH, INNER, dtype=dtype),
        )
        rows @ weights  # compiled here
        rounds: list[float] = []
        end = time.perf_counter() + SECONDS
        while len(rounds) < FEWEST or (len(rounds) < ROUNDS and time.perf_counter() < end):
            began = time.perf_counter()
            for _ in range(REPEATED):
                rows @ weights
            rounds.append((time.perf_counter() - began) / REPEATED)
    return statistics.median(rounds)
