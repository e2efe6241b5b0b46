"""The settings that are compared with one another."""

import dataclasses
from typing import Any

RANK = 16
"""Of the adapter that every mode trains, on all linear layers."""


@dataclasses.dataclass(frozen=True)
class Mode:
    """How one measurement trains."""

    batch: int | None = None
    """Rows per forward pass, the rest of a step by accumulation; None takes all at once."""
    checkpointing: bool | None = None
    """TRL's `gradient_checkpointing`; None leaves TRL's default, which is on."""
    accelerate: dict[str, Any] | None = None
    """Arguments of `strop.accelerate`; None leaves the trainer as TRL built it."""
    share: bool = True
    """Whether strop computes a prefix that rows have in common once."""


MODES = {
    "trl-default": Mode(),
    "trl-batch": Mode(checkpointing=False),
    "trl-rows": Mode(batch=1, checkpointing=False),
    "trl-rows-checkpoint": Mode(batch=1, checkpointing=True),
    "strop": Mode(accelerate={}),
    "strop-unshared": Mode(accelerate={}, share=False),
    "strop-lean": Mode(accelerate={"policy": "checkpoint", "micro_batch_tokens": 1024}),
    "strop-checkpoint": Mode(accelerate={"policy": "checkpoint"}),
}
