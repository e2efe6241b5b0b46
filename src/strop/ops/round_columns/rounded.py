"""Codes, scales and errors of a group's rounded columns."""

from typing import NamedTuple

from torch import Tensor


class Rounded(NamedTuple):
    """Result of `round_columns`."""

    codes: Tensor
    """[G, E] uint8, places in the table."""
    scales: Tensor
    """[E] uint8, places in the steps."""
    errors: Tensor
    """[G, E] what each column left, over its diagonal of `feedback`; zero without feedback."""
