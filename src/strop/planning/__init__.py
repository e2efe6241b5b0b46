"""Declares the settings; predicts memory and arithmetic of a training step without running it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strop.planning.memory import simulate
    from strop.planning.step import Setup, Step

__all__ = ["Setup", "Step", "simulate"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562): settings must stay cheap to read."""
    if name == "simulate":
        from strop.planning.memory import simulate

        return simulate
    if name in ("Setup", "Step"):
        from strop.planning import step

        return getattr(step, name)
    raise AttributeError(f"strop.planning has no public name {name!r}; it has {', '.join(__all__)}")
