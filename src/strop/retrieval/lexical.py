"""Lexical search: BM25 over the terms of all chunks, by bm25s, memory-mapped."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.core.errors import MissingPackageError
from strop.core.files import reading
from strop.retrieval.terms import terms_of


def check_bm25s() -> None:
    """Raise MissingPackageError if bm25s is not installed."""
    if importlib.util.find_spec("bm25s") is None:
        raise MissingPackageError(
            'an index of documents needs bm25s; run: pip install "strop[rag]"'
        )


def write_lexical(folder: Path, texts: Iterable[str]) -> None:
    """Write the BM25 scores of every term in every text (Lucene's form, k1 1.5, b 0.75)."""
    import bm25s

    vocabulary: dict[str, int] = {}
    ids = [
        [vocabulary.setdefault(term, len(vocabulary)) for term in terms_of(text)] for text in texts
    ]
    if not vocabulary:  # signs alone: a term that no question has
        vocabulary[""] = 0
        ids = [[0] for _ in ids]
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index((ids, vocabulary), create_empty_token=False, show_progress=False)
    index.save(str(folder), show_progress=False)


class Lexical:
    """BM25 scores that `write_lexical` wrote.

    Args:
        folder: where they lie.

    Raises:
        DataError: a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        import bm25s

        with reading(folder, "index the documents again with --rebuild"):
            self._index: Any = bm25s.BM25.load(str(folder), mmap=True, load_corpus=False)

    def scores(self, question: str) -> NDArray[np.float32]:
        """Return the BM25 score of each chunk, [N]; zeros where no term is known."""
        vocabulary = self._index.vocab_dict
        ids = [vocabulary[term] for term in terms_of(question) if term in vocabulary]
        if not ids:
            return np.zeros(self._index.scores["num_docs"], np.float32)
        scores: NDArray[np.float32] = self._index.get_scores_from_ids(ids)
        return scores

    def document_counts(self, terms: list[str]) -> list[int]:
        """Return how many chunks have each term."""
        borders, vocabulary = self._index.scores["indptr"], self._index.vocab_dict
        numbers = [vocabulary.get(term) for term in terms]
        return [0 if n is None else int(borders[n + 1] - borders[n]) for n in numbers]
