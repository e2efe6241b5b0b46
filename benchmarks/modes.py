"""The settings that are compared with one another."""

import dataclasses
from typing import Any, Literal

RANK = 16
"""Of the adapter that modes train, on all linear layers."""


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
    weights: Literal["transformers", "strop"] = "transformers"
    """Who opens the model's folder; strop holds in 16 bits what is not quantised."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What products run in."""
    adapter: bool = True
    """Whether an adapter is trained, or all weights."""
    library: Literal["trl", "unsloth"] = "trl"
    """Whose trainer it is; Unsloth's runs in an environment of its own."""


MODES = {
    "trl-default": Mode(),
    "trl-batch": Mode(checkpointing=False),
    "trl-rows": Mode(batch=1, checkpointing=False),
    "trl-rows-checkpoint": Mode(batch=1, checkpointing=True),
    "strop": Mode(accelerate={}),
    "strop-unshared": Mode(accelerate={}, share=False),
    "strop-lean": Mode(accelerate={"activations": "checkpoint", "micro_batch_tokens": 1024}),
    "trl-default-bfloat16": Mode(dtype="bfloat16"),
    "trl-rows-bfloat16": Mode(batch=1, checkpointing=False, dtype="bfloat16"),
    "trl-rows-checkpoint-bfloat16": Mode(batch=1, checkpointing=True, dtype="bfloat16"),
    "strop-held": Mode(accelerate={}, weights="strop"),
    "strop-held-lean": Mode(
        accelerate={"activations": "checkpoint", "micro_batch_tokens": 1024}, weights="strop"
    ),
    "strop-held-offload": Mode(
        accelerate={"activations": "offload", "micro_batch_tokens": 1024}, weights="strop"
    ),
    "trl-batch-bfloat16": Mode(checkpointing=False, dtype="bfloat16"),
    "strop-bfloat16": Mode(accelerate={}, dtype="bfloat16"),
    "strop-lean-bfloat16": Mode(
        accelerate={"activations": "checkpoint", "micro_batch_tokens": 1024}, dtype="bfloat16"
    ),
    "strop-held-bfloat16": Mode(accelerate={}, weights="strop", dtype="bfloat16"),
    "strop-held-lean-bfloat16": Mode(
        accelerate={"activations": "checkpoint", "micro_batch_tokens": 1024},
        weights="strop",
        dtype="bfloat16",
    ),
    "strop-checkpoint": Mode(accelerate={"activations": "checkpoint"}),
    "strop-checkpoint-bfloat16": Mode(accelerate={"activations": "checkpoint"}, dtype="bfloat16"),
    "trl-full-default": Mode(adapter=False),
    "trl-full-rows": Mode(batch=1, checkpointing=False, adapter=False),
    "trl-full-rows-checkpoint": Mode(batch=1, checkpointing=True, adapter=False),
    "strop-full": Mode(accelerate={}, adapter=False),
    "strop-full-lean": Mode(
        accelerate={"activations": "checkpoint", "micro_batch_tokens": 1024}, adapter=False
    ),
    "unsloth-cpu": Mode(batch=1, checkpointing=False, dtype="bfloat16", library="unsloth"),
    "unsloth-cpu-checkpoint": Mode(
        batch=1, checkpointing=True, dtype="bfloat16", library="unsloth"
    ),
    "unsloth-cpu-batch": Mode(checkpointing=False, dtype="bfloat16", library="unsloth"),
}
