"""Columns rounded in C++, as many rows of the weight at once as the machine has lanes."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from strop.core import native
from strop.ops.round_columns.rounded import Rounded

SOURCE = Path(__file__).with_name("cpu.cpp")
UNEVEN = (16, 32, 64)
"""Numbers of levels that may lie anywhere; any other number must be evenly spaced."""
SIGNATURE = "ppppppppppppqqqiiii"


def available() -> bool:
    """Return whether the C++ is compiled or can be."""
    return _function() is not None


def _function() -> Callable[..., None] | None:
    return native.function(SOURCE, "round_columns", SIGNATURE)


def evenly_spaced(table: Tensor) -> bool:
    """Return whether levels go from -1 in even steps up to the last before 1."""
    half = len(table) // 2
    return torch.equal(table, (torch.arange(2 * half, device=table.device) - half).float() / half)


def round_columns(
    group: Tensor,
    importance: Tensor,
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
    rounded = Rounded(
        torch.empty(G, E, dtype=torch.uint8), torch.empty(E, dtype=torch.uint8),
        torch.zeros_like(group),
    )  # fmt: skip
    if feedback is not None and feedback.stride(1) != 1:
        feedback = feedback.contiguous()
    importance, factor = importance.contiguous(), factor.contiguous()
    middles = (steps[1:] + steps[:-1]) / 2
    bounds = None
    if len(table) in UNEVEN:
        between = (table[1:] + table[:-1]) / 2
        bounds = torch.nn.functional.pad(between, (0, 1), value=torch.inf)
    inputs = (group, importance, feedback, factor, table, bounds, steps, middles, multiples)
    run(
        *inputs, *rounded, G, E, 0 if feedback is None else feedback.stride(0), len(table), len(steps),
        len(multiples), torch.get_num_threads(),
    )  # fmt: skip
    return rounded
