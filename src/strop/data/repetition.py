"""How much of the answers stands in earlier ones: labels, numbers and forms repeat, free text does not."""

import itertools
from collections.abc import Iterable, Sequence

MOST_ROWS = 5_000
"""Answers that are looked at."""
START = (-1, -1)
"""Stands before the first token of an answer."""


def repeated_share(answers: Iterable[Sequence[int]]) -> float:
    """Return the share of tokens that followed the same two tokens in an earlier answer, from 0 to 1.

    Of 150 answers each: labels 0.98, records as JSON 0.80, numbers 0.56, instructions that are followed
    0.07, lines of a play 0.05, web pages 0.03 (the tasks of benchmarks/contest.py).

    Args:
        answers: token ids of each.
    """
    seen: set[tuple[int, int, int]] = set()
    repeated = total = 0
    for ids in itertools.islice(answers, MOST_ROWS):
        whole = (*START, *ids)
        triples = list(zip(whole, whole[1:], whole[2:], strict=False))
        repeated += sum(triple in seen for triple in triples)
        total += len(triples)
        seen.update(triples)
    return repeated / total if total else 0.0
