"""A setting with its reason."""

import dataclasses
from typing import Any

BY_HAND = "set by hand"
"""Reason of what the caller set."""


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """The value of a setting, why it is that, and what would change it."""

    setting: str
    value: Any
    reason: str
    changed_by: str

    @classmethod
    def by_hand(cls, setting: str, value: Any) -> "Choice":
        """Return the choice of somebody who set it."""
        return cls(setting, value, BY_HAND, "leave it out, and it is chosen")


def count(number: float) -> str:
    """Return a number of tokens or weights as people read it: 840, 12k, 310k, 1.1M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            short = number / unit
            return f"{short:.1f}{name}" if short < 9.95 and unit > 1e3 else f"{short:,.0f}{name}"
    return f"{number:,.0f}"
