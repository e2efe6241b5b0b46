"""Builds, runs, resumes and records a TRL trainer."""

from typing import TYPE_CHECKING

from strop.core.lazy import public
from strop.planning.settings import Settings
from strop.runs.run import Run

if TYPE_CHECKING:
    from strop.training.acceleration import accelerate, restore
    from strop.training.fine_tuning import train

__all__ = ["Run", "Settings", "accelerate", "restore", "train"]

__getattr__ = public(
    __name__,
    {
        "accelerate": "strop.training.acceleration",
        "restore": "strop.training.acceleration",
        "train": "strop.training.fine_tuning",
    },
)
