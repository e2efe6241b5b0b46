"""Memory of compiled matrix products: oneDNN compiles one for each shape and keeps it.

In 16 bits on a CPU every product whose shapes or strides are new is compiled, and the last ones stay
until the process ends (oneDNN: primitive cache; `env.keep_few_products`). Micro-batches of random rows
have ever new numbers of tokens, so they fill that cache. In float32 MKL multiplies, which compiles
nothing.
"""

import random
from collections.abc import Iterator, Sequence

from strop.core import env

BYTES = 1_500_000
"""Of one and what hangs on it: buffers of 256 kB for its code (oneDNN: MAX_CODE_SIZE), memory in which it
works. 128 products of the layers of SmolLM2-135M took 120 MB, runs of it with its head 200 MB."""
ATTENTION = 4
"""Products that attention over a row of a new length needs: an estimate, between the 3 that oneDNN
compiled (`ONEDNN_VERBOSE=1`) in a run of 12 steps and the 5.5 in one of few rows."""


def cache_bytes(products: int, micro_batches: int, rows: int) -> int:
    """Return the bytes of products compiled in a run.

    Args:
        products: of a micro-batch, with different shapes.
        micro_batches: numbers of tokens that differ.
        rows: lengths that differ.
    """
    return BYTES * min(env.most_products(), products * micro_batches + ATTENTION * rows)


def batches(count: int, batch_size: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Yield the numbers of the rows of each step, of `count` rows in random order in each epoch."""
    draw = random.Random(seed)
    order: list[int] = []
    for _ in range(steps):
        if not order:
            order = draw.sample(range(count), count)
        yield order[:batch_size]
        del order[:batch_size]


def micro_batch_sizes(lengths: Sequence[int], budget: int | None) -> Iterator[int]:
    """Yield the tokens of each micro-batch of a batch of rows of these lengths."""
    size = 0
    for length in lengths:
        if size and budget is not None and size + length > budget:
            yield size
            size = 0
        size += length
    yield size
