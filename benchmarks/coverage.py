"""Coverage of the intervals of evaluations: how often the truth lies inside, in simulations.

python benchmarks/coverage.py

Each case draws 1,000 evaluations with a known truth: accuracy, macro F1, the paired difference of
two models, rows in clusters, loss. Writes results/evaluation/coverage.json.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from strop.metrics.classification import macro_f1
from strop.metrics.intervals import Scores, interval, paired, ratio

RESULTS = Path(__file__).parent / "results" / "evaluation" / "coverage.json"
EVALUATIONS = 1000
RNG = torch.Generator().manual_seed(0)


def uniform(*shape: int) -> Tensor:
    """Return numbers between 0 and 1."""
    return torch.rand(shape, generator=RNG, dtype=torch.float64)


def normal(*shape: int) -> Tensor:
    """Return numbers of a normal distribution."""
    return torch.randn(shape, generator=RNG, dtype=torch.float64)


def right(hits: Tensor) -> Scores:
    """Return the scores of rows that are right or wrong."""
    hits = hits.double()
    return Scores(torch.stack([hits, torch.ones_like(hits)], 1), ratio, share=True, right=True)


def accuracy(truth: float, rows: int) -> Callable[[], bool]:
    """Return an evaluation of independent rows, which says whether its interval holds the truth."""

    def once() -> bool:
        low, high = interval(right(uniform(rows) < truth), torch.arange(rows), seed=0)
        return low <= truth <= high

    return once


def f1(truth: float, rows: int, labels: int) -> Callable[[], bool]:
    """Return an evaluation of labels, all as frequent, each wrong one as likely: F1 is accuracy."""

    def once() -> bool:
        labelled = torch.randint(labels, (rows,), generator=RNG)
        other = (labelled + torch.randint(1, labels, (rows,), generator=RNG)) % labels
        chosen = torch.where(uniform(rows) < truth, labelled, other)
        low, high = interval(macro_f1(labelled, chosen, labels), torch.arange(rows), seed=0)
        return low <= truth <= high

    return once


def difference(first: float, second: float, rows: int, shared: float) -> Callable[[], bool]:
    """Return an evaluation of two models, which see `shared` of the rows as equally hard."""

    def once() -> bool:
        one = uniform(rows)
        other = torch.where(uniform(rows) < shared, one, uniform(rows))
        change = paired(right(one < first), right(other < second), torch.arange(rows), seed=0)
        return change.low <= second - first <= change.high

    return once


def clustered(truth: float, clusters: int, size: int, share: float) -> Callable[[], bool]:
    """Return an evaluation of documents of about `size` rows that share a `share` of their variance."""
    threshold = math.sqrt(2) * torch.erfinv(torch.tensor(2 * truth - 1, dtype=torch.float64))

    def once() -> bool:
        numbers = documents(clusters, size)
        hard = math.sqrt(share) * normal(clusters)[numbers]
        hits = hard + math.sqrt(1 - share) * normal(len(numbers)) < threshold
        low, high = interval(right(hits), numbers, seed=0)
        return low <= truth <= high

    return once


def clustered_difference(
    first: float, second: float, clusters: int, size: int
) -> Callable[[], bool]:
    """Return an evaluation of two models on documents, whose rows are hard together for each."""
    ends = torch.tensor([2 * first - 1, 2 * second - 1], dtype=torch.float64)
    thresholds = math.sqrt(2) * torch.erfinv(ends)

    def once() -> bool:
        numbers = documents(clusters, size)
        both = math.sqrt(0.2) * normal(clusters)[numbers] + math.sqrt(0.3) * normal(len(numbers))
        hits = []
        for threshold in thresholds:
            of_model = math.sqrt(0.1) * normal(clusters)[numbers]
            hits.append(both + of_model + math.sqrt(0.4) * normal(len(numbers)) < threshold)
        change = paired(right(hits[0]), right(hits[1]), numbers, seed=0)
        return change.low <= second - first <= change.high

    return once


def documents(clusters: int, size: int) -> Tensor:
    """Return the number of the document of each row; documents have 1 to 2 size - 1 rows."""
    sizes = torch.randint(1, 2 * size, (clusters,), generator=RNG)
    return torch.repeat_interleave(torch.arange(clusters), sizes)


def loss(rows: int) -> Callable[[], bool]:
    """Return an evaluation of answers of 1 to 20 tokens, whose losses are gamma-distributed around 2."""

    def once() -> bool:
        tokens = torch.randint(1, 21, (rows,), generator=RNG).double()
        each = -(uniform(rows).log() + uniform(rows).log())  # gamma of shape 2, mean 2
        scores = Scores(torch.stack([each * tokens, tokens], 1), ratio, share=False)
        low, high = interval(scores, torch.arange(rows), seed=0)
        return low <= 2 <= high

    return once


def cases() -> Iterator[tuple[str, Callable[[], bool]]]:
    """Yield each case: its name, and one evaluation."""
    for truth, rows in ((0.5, 100), (0.7, 300), (0.9, 300), (0.99, 300)):
        yield f"accuracy {truth}, {rows} rows", accuracy(truth, rows)
    for truth, rows, labels in ((0.7, 300, 5), (0.9, 300, 2), (0.99, 300, 2), (0.99, 300, 5)):
        yield f"macro F1 {truth}, {rows} rows, {labels} labels", f1(truth, rows, labels)
    for first, second in ((0.6, 0.7), (0.9, 0.95), (0.95, 0.99), (0.98, 0.99)):
        name = f"difference {first} to {second}, 300 rows"
        yield name, difference(first, second, 300, 0.5)
    for truth, clusters in ((0.7, 60), (0.9, 60), (0.99, 60)):
        name = f"accuracy {truth}, {clusters} documents of 5 rows"
        yield name, clustered(truth, clusters, 5, 0.2)
    for first, second in ((0.6, 0.7), (0.95, 0.99)):
        name = f"difference {first} to {second}, 60 documents of 5 rows"
        yield name, clustered_difference(first, second, 60, 5)
    yield "loss, 300 rows", loss(300)


def main() -> None:
    """Simulate every case and keep the results."""
    torch.set_num_threads(1)
    coverage = {}
    for name, once in cases():
        coverage[name] = sum(once() for _ in range(EVALUATIONS)) / EVALUATIONS
        print(f"{coverage[name]:.1%}  {name}", flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    content = {"evaluations": EVALUATIONS, "coverage": coverage}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
