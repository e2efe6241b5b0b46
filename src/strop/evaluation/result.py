"""Results of an evaluation, as plain frozen data."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value and its 95 % interval; none where one row or one cluster was measured."""

    value: float
    low: float | None
    high: float | None

    def apart_from(self, other: "Estimate") -> bool:
        """Return whether the two intervals do not overlap."""
        if None in (self.low, self.high, other.low, other.high):
            return False
        return self.low > other.high or self.high < other.low  # type: ignore[operator]


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A measure of one model less that of another on the same rows, with its 95 % interval."""

    value: float
    low: float | None
    high: float | None
    p: float | None
    """Probability of a difference at least as large between equal models: McNemar's exact test
    where independent rows are right or wrong, Student's t of the paired difference elsewhere."""
    p_adjusted: float | None
    """`p` after Holm's correction for all models that are compared; None where it is one pair."""
    rows_needed: int | None
    """Rows on which a difference of this size shows in four of five evaluations."""

    @property
    def sure(self) -> bool:
        """True if the interval leaves out 0, and the corrected p is below 0.05."""
        if self.low is None or self.high is None:
            return False
        apart = self.low > 0 or self.high < 0
        return apart and (self.p_adjusted is None or self.p_adjusted < 0.05)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Measurements of one model on some rows."""

    rows: int
    """Rows that were measured."""
    tokens: int
    """Tokens of their answers, the end token of each included."""
    metrics: Mapping[str, Estimate]
    """Each measure by its name, such as `loss` and `accuracy`."""
    per_class: Mapping[str, Mapping[str, Estimate]] | None = None
    """Precision, recall and F1 of each label; None where answers are no labels."""
    confusion: dict[str, dict[str, int]] | None = None
    """Rows by their right label and by the model's choice; None where answers are no labels."""
    calibration: list[dict[str, float]] | None = None
    """Bins of rows by the probability of the chosen label: `rows`, mean `probability`, share
    `right`; None where answers are no labels."""
    seconds: float
    """Time it took."""
    note: str | None = None
    """Remark on how it was measured."""

    @property
    def loss(self) -> Estimate:
        """Mean negative log-probability of an answer token, in nats."""
        return self.metrics["loss"]

    @property
    def perplexity(self) -> Estimate:
        """exp(loss)."""
        return self.metrics["perplexity"]

    @property
    def accuracy(self) -> Estimate | None:
        """Share of rows answered with the right label; None where answers are no labels."""
        return self.metrics.get("accuracy")

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data, each measure by its name."""
        plain = dataclasses.asdict(self)
        return {**plain.pop("metrics"), **{k: v for k, v in plain.items() if v is not None}}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Evaluation":
        """Return what `plain` made plain."""
        fields = {f.name for f in dataclasses.fields(cls)}
        classes = plain.get("per_class")
        return cls(
            **{
                **{k: v for k, v in plain.items() if k in fields},
                "metrics": {k: Estimate(**v) for k, v in plain.items() if k not in fields},
                "per_class": classes
                and {k: {n: Estimate(**e) for n, e in v.items()} for k, v in classes.items()},
            }
        )


class Other(NamedTuple):
    """Another model beside a tuned one."""

    name: str
    evaluation: Evaluation
    difference: Mapping[str, Difference]
    """Tuned less this one, of each measure that both have."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """What a judge model says of tuned beside base."""

    win_rate: Estimate
    """Share of rows whose tuned answer is better in both orders, ties and verdicts that depend on
    the order counted as half."""
    wins: int
    ties: int
    losses: int
    judge: str
    """Address of the judge."""


class Comparison(NamedTuple):
    """A run and the model it started from on the same rows."""

    base: Evaluation
    tuned: Evaluation
    difference: Mapping[str, Difference]
    """Tuned less base, of each measure that both have."""
    others: tuple[Other, ...] = ()
    """Other runs, checkpoints and models on the same rows."""
    verdicts: Verdicts | None = None
    """What a judge model says, where one was given and answered."""
    forgetting: Mapping[str, "Comparison"] = MappingProxyType({})
    """Both on general texts and questions, and on rows that the run should retain."""
