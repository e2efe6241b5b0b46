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
    """P = 1 / (1 + exp(-(bias + words * coverage + meaning * cosine)))."""

    bias: float
    words: float
    meaning: float

    def __call__(self, coverage: float, cosine: float) -> float:
        """Return the probability."""
        return 1 / (1 + math.exp(-(self.bias + self.words * coverage + self.meaning * cosine)))


WORDS_ALONE = Logistic(-5.2, 9.5, 0.0)
WITH_MEANING = Logistic(-9.4, 6.35, 14.0)
"""Fitted on questions whose passage is in the index, and on the same ones with its article left out.

Cosines of other embedding models have other scales, so beside those words alone count.
"""
THRESHOLD = 0.5


def coverage(index: Index, question: str, hit: Hit) -> float:
    """Return the share of a question's stems that a chunk has, each weighted by how rare it is.

    The weight is ln(1 + (N - n + 1/2) / (n + 1/2)) of a stem that n of N chunks have, BM25's. Stop
    words do not count, those of the language that the question has most of.
    """
    stems = list(dict.fromkeys(index.stems(_content(list(dict.fromkeys(terms_of(question)))))))
    if not stems:
        return 0.0
    counts = np.array(index.document_counts(stems))
    weights = np.log1p((len(index) - counts + 0.5) / (counts + 0.5))
    chunk = set(index.stems(terms_of(searchable({"title": hit.title, "text": hit.text}))))
    shared = np.array([stem in chunk for stem in stems])
    return float((weights * shared).sum() / weights.sum())


def _content(terms: list[str]) -> list[str]:
    """Return the terms that are no stop words; all where there are no others."""
    most = max(stop_words().values(), key=lambda words: len(words & set(terms)))
    return [term for term in terms if term not in most] or terms


def relevances(index: Index, question: str, hits: Sequence[Hit]) -> list[float]:
    """Return for each hit the probability that it answers the question."""
    calibrated = index.embedder is not None and index.embedder.name in PACKAGED_EMBEDDERS
    probabilities = []
    for hit in hits:
        share = coverage(index, question, hit)
        logistic = WITH_MEANING if calibrated and hit.dense is not None else WORDS_ALONE
        probabilities.append(logistic(share, hit.dense or 0.0))
    return probabilities
