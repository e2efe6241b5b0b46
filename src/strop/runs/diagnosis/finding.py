"""What is wrong with a training: named, with its evidence, cause and cure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a training."""

    kind: str
    """Name of the fault, one of `strop.runs.diagnosis.KINDS`."""
    step: int
    """Optimizer step at which it shows."""
    evidence: str
    """What was seen, with its numbers."""
    cause: str
    cure: str

    @property
    def name(self) -> str:
        """The kind in words."""
        return self.kind.replace("_", " ")

    @property
    def sentence(self) -> str:
        """All of it as one line."""
        return f"{self.name}: {self.evidence}; {self.cause}; {self.cure}"
