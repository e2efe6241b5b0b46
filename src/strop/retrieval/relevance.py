"""How likely a chunk answers a question: a logistic of shared words and of likeness in meaning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strop.models.embedding.embedder import PACKAGED_EMBEDDERS
from strop.retrieval.index import Hit, Index
from strop.retrieval.stems import stop_words
from strop.retrieval.storage import searchable
from strop.retrieval.terms import terms_of


@dataclass(frozen=True, slots=True)
class Logistic:
    """P = 1 / (1 + exp(-(bias + words * coverage + size * ln N + meaning * cosine))).

    N is the number of chunks: the best of many has more of any question's words than that of few.
    """

    bias: float
    words: float
    size: float
    meaning: float

    def __call__(self, coverage: float, chunks: int, cosine: float) -> float:
        """Return the probability."""
        size = self.size * math.log(min(chunks, MOST_CHUNKS))
        return 1 / (
            1 + math.exp(-(self.bias + self.words * coverage + size + self.meaning * cosine))
        )


WORDS_ALONE = Logistic(-3.8, 15.0, -0.63, 0.0)
WITH_MEANING = Logistic(-5.9, 11.3, -0.83, 14.5)
"""Fitted on questions whose passage is in the index and on questions about other articles, in indexes
of 20 to 2,300 chunks (`benchmarks/relevance.py`).

Cosines of other embedding models have other scales, so beside those words alone count.
"""
MOST_CHUNKS = 2_300
"""Chunks of the largest index of the fit; a larger one counts as this."""
THRESHOLD = 0.5
ELSEWHERE = 500
"""Chunks of other documents that are thought of, one of which has each stem: a few chunks say little
about how rare a word is."""


def coverages(index: Index, question: str, hits: Sequence[Hit]) -> list[float]:
    """Return for each hit the share of a question's stems that it has, each weighted by its rarity.

        ln(1 + (M - m + 1/2) / (m + 1/2)),   M = N + 500, m = n + 1

    is the weight of a stem that n of N chunks have: BM25's, were there 500 more chunks, one of them
    with the stem. Stop words do not count, those of the language that the question has most of.
    """
    stems = list(dict.fromkeys(index.stems(_content(list(dict.fromkeys(terms_of(question)))))))
    if not stems:
        return [0.0] * len(hits)
    having = np.array(index.document_counts(stems)) + 1
    weights = np.log1p((len(index) + ELSEWHERE - having + 0.5) / (having + 0.5))
    weights /= weights.sum()
    chunks = (
        set(index.stems(terms_of(searchable({"title": hit.title, "text": hit.text}))))
        for hit in hits
    )
    return [float(weights @ [stem in chunk for stem in stems]) for chunk in chunks]


def _content(terms: list[str]) -> list[str]:
    """Return the terms that are no stop words; all where there are no others."""
    most = max(stop_words().values(), key=lambda words: len(words & set(terms)))
    return [term for term in terms if term not in most] or terms


def relevances(index: Index, question: str, hits: Sequence[Hit]) -> list[float]:
    """Return for each hit the probability that it answers the question."""
    calibrated = index.embedder is not None and index.embedder.name in PACKAGED_EMBEDDERS
    return [
        (WITH_MEANING if calibrated and hit.dense is not None else WORDS_ALONE)(
            share, len(index), hit.dense or 0.0
        )
        for hit, share in zip(hits, coverages(index, question, hits), strict=True)
    ]
