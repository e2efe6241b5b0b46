"""How likely a chunk answers a question: a logistic of shared words and of likeness in meaning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strop.models.embedding.embedder import PACKAGED_EMBEDDERS
from strop.retrieval.index import Hit, Index
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


WORDS_ALONE = Logistic(-5.85, 11.3, 0.0)
WITH_MEANING = Logistic(-10.8, 8.9, 14.4)
"""Fitted on questions whose passage is in the index, and on the same ones with its article left out.

Cosines of other embedding models have other scales, so beside those words alone count.
"""
THRESHOLD = 0.5


def coverage(index: Index, question: str, hit: Hit) -> float:
    """Return the share of a question's terms that a chunk has, each weighted by how rare it is.

    The weight is ln(1 + (N - n + 1/2) / (n + 1/2)) of a term that n of N chunks have, BM25's. Stop
    words do not count, those of the language that the question has most of.
    """
    terms = _content(list(dict.fromkeys(terms_of(question))))
    if not terms:
        return 0.0
    counts = np.array(index.document_counts(terms))
    weights = np.log1p((len(index) - counts + 0.5) / (counts + 0.5))
    chunk = set(terms_of(searchable({"title": hit.title, "text": hit.text})))
    shared = np.array([term in chunk for term in terms])
    return float((weights * shared).sum() / weights.sum())


def _content(terms: list[str]) -> list[str]:
    """Return the terms that are no stop words; all where there are no others."""
    from bm25s import stopwords

    lists = [getattr(stopwords, name) for name in dir(stopwords) if name.startswith("STOPWORDS_")]
    most = max(lists, key=lambda words: len(set(words) & set(terms)))
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
