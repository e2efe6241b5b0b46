"""What a call of attention among runs is given beside its tensors."""

from dataclasses import dataclass

from strop.ops.segment_attention.segments import Segments


@dataclass(frozen=True, slots=True)
class Settings:
    """What is not a tensor."""

    segments: Segments
    scale: float
    window: int | None
    softcap: float | None
