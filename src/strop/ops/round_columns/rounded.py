"""What rounding the columns of a group gives."""

from typing import NamedTuple

from torch import Tensor


class Rounded(NamedTuple):
    """What `round_columns` returns."""

    codes: Tensor
    """[G, E] uint8, places in the table."""
    scales: Tensor
    """[E] uint8, places in the steps."""
    errors: Tensor
    """[G, E] what each column left, over its diagonal of `feedback`; zero without feedback."""
