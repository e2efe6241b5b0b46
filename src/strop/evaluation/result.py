"""Results of an evaluation, as plain frozen data."""

import dataclasses
from typing import Any

_ESTIMATES = ("loss", "perplexity", "accuracy")


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value and its 95 % interval."""

    value: float
    low: float
    high: float

    def apart_from(self, other: "Estimate") -> bool:
        """Return whether the two intervals do not overlap."""
        return self.low > other.high or self.high < other.low


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Measurements of one model on some rows."""

    rows: int
    """Rows that were asked."""
    tokens: int
    """Tokens of their answers, the end token of each included."""
    loss: Estimate
    """Mean negative log-probability of an answer token, in nats; the interval is a bootstrap's."""
    perplexity: Estimate
    """exp(loss)."""
    accuracy: Estimate | None
    """Share of rows answered right, with Wilson's interval; None where answers are no labels."""
    confusion: dict[str, dict[str, int]] | None
    """Rows by their right label and by the model's choice; None where answers are no labels."""
    seconds: float
    """Time it took."""
    note: str | None = None
    """Remark on how it was measured."""

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data, an estimate as its value and its interval."""
        estimates = {
            name: {"value": e.value, "interval": [e.low, e.high]}
            for name in _ESTIMATES
            if (e := getattr(self, name)) is not None
        }
        return {**dataclasses.asdict(self), **estimates}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Evaluation":
        """Return what `plain` made plain."""
        estimates = {
            name: Estimate(e["value"], *e["interval"]) if (e := plain[name]) else None
            for name in _ESTIMATES
        }
        return cls(**{**plain, **estimates})
