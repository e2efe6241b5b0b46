"""Declares the settings; predicts memory and arithmetic of a training step without running it."""

from typing import TYPE_CHECKING

from strop.core.lazy import public

if TYPE_CHECKING:
    from strop.planning.memory import simulate
    from strop.planning.step import Setup, Step

__all__ = ["Setup", "Step", "simulate"]

__getattr__ = public(
    __name__,
    {
        "Setup": "strop.planning.step",
        "Step": "strop.planning.step",
        "simulate": "strop.planning.memory",
    },
)
