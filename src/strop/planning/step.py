"""Settings of a simulated training step, and its memory and arithmetic."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from strop.models.precision import Bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One training step of one model on one machine."""

    config: Mapping[str, Any] | str
    """What config.json of the model holds, or the folder where it lies; no weights are read."""
    rows: tuple[int, ...]
    """Tokens of each row of the batch."""
    answers: tuple[int, ...] | None = None
    """Of each row, how many tokens at its end are learned; None learns all but the first."""
    bits: Bits = 4
    """In which the frozen weights are held."""
    dtype: str
    """Products run in: float32, bfloat16 or float16."""
    rank: int = 16
    """Of the adapter; 0 trains all weights."""
    targets: str | tuple[str, ...] = "all-linear"
    """Layers that get an adapter, as PEFT takes them."""
    activations: str = "auto"
    """What is kept for backward; see `strop.accelerate`."""
    micro_batch_tokens: int | None = None
    """Most tokens computed at once."""
    device: str = "cpu"
    """cpu or cuda, whether there is one or not."""
    update_in_backward: bool = False
    """Each gradient is let go as soon as it is there."""

    def plain(self) -> dict[str, Any]:
        """Return what `Setup(**…)` takes, of kinds that JSON has."""
        config = self.config if isinstance(self.config, str) else dict(self.config)
        return {**asdict(self), "config": config}


@dataclass(frozen=True, slots=True)
class Step:
    """What a training step needs, in bytes and floating-point operations."""

    peak: int
    """Most bytes that tensors hold at one time, once the optimizer has its state."""
    at_peak: dict[str, int] = field(default_factory=dict)
    """Those bytes by kind: weights, adapter, gradients, optimizer, kept (for backward), temporaries."""
    phases: dict[str, int] = field(default_factory=dict)
    """The peak of each part of the step: forward, backward, optimizer."""
    before: int = 0
    """Bytes held between steps."""
    after_forward: int = 0
    """Bytes held between forward and backward."""
    resident: int = 0
    """What the process grows to on a CPU: `peak`, and small blocks that were freed but not given back
    to the system."""
    flops: int = 0
    """Of matrix products and attention, recomputation counted; a multiply-add is two."""
    products: int = 0
    """Matrix products in 16 bits whose shapes or strides differ."""
