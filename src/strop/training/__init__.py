"""Builds, runs, resumes and records a TRL trainer."""

from typing import TYPE_CHECKING, Any

from strop.planning.settings import Settings
from strop.runs.run import Run

if TYPE_CHECKING:
    from strop.training.acceleration import accelerate, restore
    from strop.training.sft import train

__all__ = ["Run", "Settings", "accelerate", "restore", "train"]


def __getattr__(name: str) -> Any:
    """Import what needs TRL when it is first used (PEP 562): settings must stay cheap to read."""
    if name == "train":
        from strop.training.sft import train

        return train
    if name in ("accelerate", "restore"):
        from strop.training import acceleration

        return getattr(acceleration, name)
    raise AttributeError(f"strop.training has no public name {name!r}")
