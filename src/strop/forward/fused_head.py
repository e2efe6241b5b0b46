"""Options of TRL's fused language-model head, read from the forward that TRL gave the model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

NAMES = ("temperature", "cast_lm_head_to_fp32", "outputs")


@dataclass(frozen=True, slots=True)
class FusedHeadOptions:
    """Arguments of TRL's `add_fused_lm_head`, and what the loss differentiates."""

    temperature: float = 1.0
    """Divides the logits, after their scale and soft-cap."""
    float32: bool = False
    """The hidden rows are widened to float32 before the head."""
    outputs: tuple[str, ...] = ("log_probs", "entropy", "is_top1")
    """Fields of the answer; the others are None."""
    entropy_gradient: bool = False
    """The loss differentiates the entropy too."""

    @classmethod
    def of(cls, forward: Callable[..., Any]) -> Self | None:
        """Read the arguments back from what `add_fused_lm_head` bound; None if it bound another."""
        function: Any = getattr(forward, "__func__", forward)
        cells = getattr(function, "__closure__", None) or ()
        names = function.__code__.co_freevars if cells else ()
        arguments = {n: c.cell_contents for n, c in zip(names, cells, strict=True) if n in NAMES}
        if arguments.keys() != set(NAMES):
            return None
        return cls(
            float(arguments["temperature"]),
            bool(arguments["cast_lm_head_to_fp32"]),
            tuple(arguments["outputs"]),
        )
