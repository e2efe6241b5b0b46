"""Lexical search: BM25 over the stems of all chunks' terms, by bm25s, memory-mapped."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.core.errors import MissingPackageError
from strop.core.files import reading
from strop.retrieval.stems import Stems
from strop.retrieval.terms import terms_of


def check_packages() -> None:
    """Raise MissingPackageError if a package that every index needs is not installed."""
    for module, package in (("bm25s", "bm25s"), ("Stemmer", "PyStemmer")):
        if importlib.util.find_spec(module) is None:
            raise MissingPackageError(
                f'an index of documents needs {package}; run: pip install "strop[rag]"'
            )


def write_lexical(folder: Path, texts: Iterable[str], stems: Stems) -> None:
    """Write the BM25 scores of every stem in every text (Lucene's form, k1 1.5, b 0.75)."""
    import bm25s

    numbers: dict[str, int] = {}
    vocabulary: dict[str, int] = {}

    def number(term: str) -> int:
        if term not in numbers:
            (stem,) = stems([term])
            numbers[term] = vocabulary.setdefault(stem, len(vocabulary))
        return numbers[term]

    ids = [[number(term) for term in terms_of(text)] for text in texts]
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
        stems: those of the index.

    Raises:
        DataError: a file is missing or damaged.
    """

    def __init__(self, folder: Path, stems: Stems) -> None:
        import bm25s

        self._stems = stems
        with reading(folder, "index the documents again with --rebuild"):
            self._index: Any = bm25s.BM25.load(str(folder), mmap=True, load_corpus=False)

    def scores(self, question: str) -> NDArray[np.float32]:
        """Return the BM25 score of each chunk, [N]; zeros where no term is known."""
        vocabulary = self._index.vocab_dict
        ids = [vocabulary[stem] for stem in self._stems(terms_of(question)) if stem in vocabulary]
        if not ids:
            return np.zeros(self._index.scores["num_docs"], np.float32)
        scores: NDArray[np.float32] = self._index.get_scores_from_ids(ids)
        return scores

    def document_counts(self, stems: list[str]) -> list[int]:
        """Return how many chunks have each stem."""
        borders, vocabulary = self._index.scores["indptr"], self._index.vocab_dict
        numbers = [vocabulary.get(stem) for stem in stems]
        return [0 if n is None else int(borders[n + 1] - borders[n]) for n in numbers]
