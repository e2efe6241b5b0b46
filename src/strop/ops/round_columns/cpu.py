"""Columns rounded in C++, as many rows of the weight at once as the machine has lanes."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from strop.core import native
from strop.ops.round_columns.rounded import Rounded

SOURCE = Path(__file__).with_name("cpu.cpp")
SIGNATURE = "ppppppppppppqqqiiii"


def available() -> bool:
    """Say whether the C++ is compiled or can be."""
    return _function() is not None


def _function() -> Callable[..., None] | None:
    return native.function(SOURCE, "round_columns", SIGNATURE)


def round_columns(
    group: Tensor,
    energy: Tensor,
    feedback: Tensor | None,
    factor: Tensor,
    table: Tensor,
    steps: Tensor,
    multiples: Tensor,
) -> Rounded:
    """See `strop.ops.round_columns`."""
    run = _function()
    assert run is not None
    G, E = group.shape
    found = Rounded(
        torch.empty(G, E, dtype=torch.uint8), torch.empty(E, dtype=torch.uint8),
        torch.zeros_like(group),
    )  # fmt: skip
    if feedback is not None and feedback.stride(1) != 1:
        feedback = feedback.contiguous()
    energy, factor = energy.contiguous(), factor.contiguous()
    middles = (steps[1:] + steps[:-1]) / 2
    bounds = (table[1:] + table[:-1]) / 2
    inputs = (group, energy, feedback, factor, table, bounds, steps, middles, multiples)
    run(
        *inputs, *found, G, E, 0 if feedback is None else feedback.stride(0), len(table), len(steps),
        len(multiples), torch.get_num_threads(),
    )  # fmt: skip
    return found
