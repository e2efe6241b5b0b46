"""Settings of attention among segments: all of a call but its tensors."""

from dataclasses import dataclass

from strop.ops.segment_attention.segments import Segments


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a call."""

    segments: Segments
    scale: float
    window: int | None
    softcap: float | None

    def pairs(self) -> int:
        """Return how many pairs of a query and a key see each other."""
        segments, count = self.segments, 0
        for length, offset in zip(segments.lengths, segments.offsets, strict=True):
            full = offset * length + length * (length + 1) // 2
            beyond = 0 if self.window is None else offset + length - self.window
            steps = max(0, min(beyond, length))  # queries that miss a key, the last one `beyond`
            count += full - (steps * beyond - steps * (steps - 1) // 2 if steps else 0)
        return count
