"""Models that fit into a machine's memory when they are trained, by simulated steps."""

import json
from functools import cache
from importlib import resources
from typing import Any

TOKENS = 1024
"""Tokens of the one row that a step of the table computes at once."""
RESERVE = 0.1
"""Share of the free memory that is left alone."""


@cache
def model_sizes() -> dict[str, dict[str, int]]:
    """Return the bytes at the peak of a step of LoRA, rank 16, on one row, by model and bits.

    What `strop.planning.simulate` says of it, weights included; `benchmarks/model_sizes.py` wrote it.
    """
    text = (resources.files("strop.planning") / "model_sizes.json").read_text("utf-8")
    return dict(json.loads(text))


def fitting(free: int) -> list[dict[str, Any]]:
    """Return for each model of the table the bytes it needs, and in which bits it fits.

    Args:
        free: bytes of memory that are free, of the machine or of a card.
    """
    return [
        {
            "name": name,
            "bytes": {int(bits): size for bits, size in sizes.items()},
            "fits": [int(bits) for bits, size in sizes.items() if size <= (1 - RESERVE) * free],
        }
        for name, sizes in model_sizes().items()
    ]
