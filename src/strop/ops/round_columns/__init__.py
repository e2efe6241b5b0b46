"""The columns of one group of a weight rounded to few levels, one after another."""

import torch
from torch import Tensor

from strop.core.dispatch import Impl, choose, cpu_obstacle
from strop.core.errors import ShapeError
from strop.ops.round_columns import cpu, reference
from strop.ops.round_columns.rounded import Rounded

__all__ = ["IMPLS", "Rounded", "round_columns"]


def round_columns(
    group: Tensor,
    importance: Tensor,
    feedback: Tensor | None,
    factor: Tensor,
    table: Tensor,
    steps: Tensor,
    multiples: Tensor,
    *,
    impl: str | None = None,
) -> Rounded:
    """Choose one scale for each row of a group, then round its columns to levels of that scale.

        scale[e] = steps[scales[e]] * factor[e]
        minimise over scales   sum_g importance[g] * (group[g, e] - level * scale[e])**2

    Tried are the steps nearest to a few multiples of the largest weight of the row, signed so that
    it falls on the level of largest magnitude. Then column by column

        code = nearest level to group[g, e] / scale[e]
        error[g, e] = (group[g, e] - table[code] * scale[e]) / feedback[g, g]
        group[h, e] -= feedback[g, h] * error[g, e]           for h > g

    Args:
        group: [G, E] float32, contiguous: a column of the weight in each row. Not changed.
        importance: [G] what the square of an error costs in each column.
        feedback: [G, G] upper triangular, or None where no error is passed on.
        factor: [E] of the scales.
        table: [L] ascending levels.
        steps: [S] ascending, at most 256.
        multiples: [M] of the largest weight.
        impl: run this implementation or raise; None takes the first that can.

    Returns:
        codes: [G, E] uint8
        scales: [E] uint8
        errors: [G, E] float32

    Raises:
        ShapeError: the tensors do not fit each other.
        UnsupportedError: `impl` is unknown or cannot run here.
    """
    G, E = group.shape
    fits = (
        importance.shape == (G,)
        and factor.shape == (E,)
        and (feedback is None or feedback.shape == (G, G))
        and len(table) <= 256
        and len(steps) <= 256
        and group.is_contiguous()
    )
    if not fits:
        raise ShapeError(
            "round_columns takes group [G, E] contiguous, importance [G], feedback [G, G] and factor "
            f"[E]; got {list(group.shape)}, {list(importance.shape)}, "
            f"{None if feedback is None else list(feedback.shape)} and {list(factor.shape)}"
        )
    run = choose(IMPLS, impl, group, table)
    rounded: Rounded = run(group, importance, feedback, factor, table, steps, multiples)
    return rounded


def _cpu_obstacle(group: Tensor, table: Tensor) -> str | None:
    if (obstacle := cpu_obstacle(group)) is not None:
        return obstacle
    if group.dtype != torch.float32:
        return f"it needs float32, group is {group.dtype}"
    if len(table) not in cpu.UNEVEN and not cpu.evenly_spaced(table):
        return (
            f"it takes {cpu.UNEVEN} levels where they are not evenly spaced, table has {len(table)}"
        )
    return None if cpu.available() else "there is no C++ compiler"


IMPLS = (
    Impl("cpu", lambda: cpu.round_columns, _cpu_obstacle),
    Impl("reference", lambda: reference.round_columns),
)
"""Fastest first."""
