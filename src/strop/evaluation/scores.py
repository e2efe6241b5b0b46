"""Scores of a model's outcomes: each measure's statistics of each row."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from strop.evaluation.outcomes import Outcome
from strop.evaluation.result import Difference, Estimate
from strop.metrics import classification
from strop.metrics.intervals import Scores, interval, paired, ratio
from strop.metrics.significance import holm, mcnemar, rows_needed, t_two_sided


def loss_scores(outcomes: Sequence[Outcome]) -> dict[str, Scores]:
    """Return loss and perplexity, over rows with an answer."""
    places = tuple(i for i, outcome in enumerate(outcomes) if outcome.loss is not None)
    if not places:
        return {}
    sums = torch.tensor(
        [[outcomes[i].loss, float(outcomes[i].tokens)] for i in places], dtype=torch.float64
    )
    of_exp = Scores(sums, lambda s: ratio(s).exp(), share=False, rows=places)
    return {"loss": Scores(sums, ratio, share=False, rows=places), "perplexity": of_exp}


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """Right and chosen labels of the rows whose answer is one of them."""

    labels: Sequence[str]
    right: Tensor
    """[B] number of the right label."""
    chosen: Tensor
    """[B] number of the likeliest label."""
    sure: Tensor
    """[B] probability of the likeliest label among all labels."""
    places: tuple[int, ...]
    """Number in the data of each row."""

    @classmethod
    def of(
        cls, references: Sequence[str | None], outcomes: Sequence[Outcome], labels: Sequence[str]
    ) -> "Choices | None":
        """Return the choices, or None where no row has a right label and a likeliest one.

        Args:
            references: the right answer of each row, None for a row without one.
            outcomes: what a model does on each row.
            labels: in the order of the outcomes' likelihoods.
        """
        numbers = {label: number for number, label in enumerate(labels)}
        answers = [numbers.get(reference or "") for reference in references]
        both = zip(answers, outcomes, strict=True)
        places = tuple(
            i for i, (right, outcome) in enumerate(both) if right is not None and outcome.labels
        )
        if not places:
            return None
        likelihood = torch.tensor([outcomes[i].labels for i in places], dtype=torch.float64)
        sure, chosen = likelihood.softmax(1).max(1)
        return cls(labels, torch.tensor([answers[i] for i in places]), chosen, sure, places)

    def scores(self) -> dict[str, Scores]:
        """Return accuracy, macro F1 and calibration error."""
        hits = (self.right == self.chosen).double()
        scores = {
            "accuracy": classification.accuracy(self.right, self.chosen),
            "macro_f1": classification.macro_f1(self.right, self.chosen, len(self.labels)),
            "calibration_error": classification.calibration_error(self.sure, hits),
        }
        return {name: dataclasses.replace(of, rows=self.places) for name, of in scores.items()}

    def per_class(self) -> dict[str, dict[str, Scores]]:
        """Return precision, recall and F1 of each label."""
        table: dict[str, dict[str, Scores]] = {}
        for number, label in enumerate(self.labels):
            of_label = classification.of_class(self.right, self.chosen, number)
            table[label] = {
                name: dataclasses.replace(of, rows=tuple(self.places[i] for i in of.rows))
                for name, of in of_label.items()
            }
        return table

    def confusion(self) -> dict[str, dict[str, int]]:
        """Return the number of rows by right label and choice."""
        return classification.confusion(self.right, self.chosen, self.labels)

    def calibration(self) -> list[dict[str, float]]:
        """Return how sure and how often right the model is, for each bin of sureness."""
        return classification.reliability(self.sure, (self.right == self.chosen).double())


def estimate(scores: Scores, clusters: Tensor, seed: int) -> Estimate:
    """Return a measure with its interval."""
    ends = interval(scores, clusters[list(scores.rows)], seed=seed)
    return Estimate(scores.total(), *(ends or (None, None)))


def difference(first: Scores, second: Scores, clusters: Tensor, seed: int) -> Difference:
    """Return the second model's measure less the first's, on the rows that both have."""
    rows = set(first.rows) & set(second.rows)
    first, second = first.of(rows), second.of(rows)
    of_rows = clusters[sorted(rows)]
    change = paired(first, second, of_rows, seed=seed)
    count = len(of_rows.unique())
    p: float | None = None
    if first.right and second.right and count == len(rows):
        lost = int((first.sums[:, 0] > second.sums[:, 0]).sum())
        p = mcnemar(lost, int((first.sums[:, 0] < second.sums[:, 0]).sum()))
    elif count > 1:
        p = 1.0 if change.value == 0 else 0.0
        if change.error > 0:
            p = t_two_sided(change.value / change.error, count - 1)
    needed = rows_needed(change.value, change.error, len(rows))
    return Difference(change.value, change.low, change.high, p, None, needed)


def corrected(differences: Sequence[Mapping[str, Difference]]) -> list[dict[str, Difference]]:
    """Return differences of several models with Holm's correction, measure by measure."""
    adjusted: list[dict[str, Any]] = [dict(of_one) for of_one in differences]
    for name in {name for of_one in differences for name in of_one}:
        places = [i for i, of in enumerate(differences) if name in of and of[name].p is not None]
        if len(places) < 2:
            continue
        ps = holm([differences[i][name].p or 0.0 for i in places])
        for i, p in zip(places, ps, strict=True):
            adjusted[i][name] = dataclasses.replace(differences[i][name], p_adjusted=p)
    return adjusted
