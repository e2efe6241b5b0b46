"""An index that is open: searched by words and by meaning, both ranks fused."""

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.core.errors import ConfigError, DataError, StropError
from strop.core.files import reading
from strop.models.embedding.embedder import Embedder, open_embedder
from strop.retrieval.lexical import Lexical, check_packages
from strop.retrieval.stems import Stems
from strop.retrieval.storage import LEXICAL, REBUILD, VECTORS, Chunks, read_record

RRF = 60
"""k of reciprocal rank fusion: a rank counts 1 / (k + rank) (Cormack 2009)."""
_CANDIDATES = 100
"""Best chunks of each ranking that are fused."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was retrieved."""

    text: str
    """Verbatim."""
    source: str
    """Its document, and its row or page: `manual.pdf#page=3`."""
    score: float
    """Of the fused ranks, 1 for the first of all rankings."""
    title: str
    """Titles and headings that it stands under."""
    document: str
    chunk: int
    """Its number in the index."""
    lexical: float
    """BM25."""
    dense: float | None
    """Cosine of its vector and the question's; None without an embedding model."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Other columns of its row."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


class Index:
    """An index in a folder, its arrays memory-mapped.

    Args:
        folder: that `build_index` wrote.
        dense: whether meaning is searched too, where the index has vectors.

    Raises:
        ConfigError: there is no index.
        DataError: it is damaged.
        MissingPackageError: a package is not installed.
    """

    def __init__(self, folder: Path, *, dense: bool = True) -> None:
        check_packages()
        self.folder = folder
        self.record = read_record(folder)
        self.chunks = Chunks(folder)
        self.notes: list[str] = []
        """Sentences about what is not searched."""
        self._lock = threading.Lock()
        self.stems = Stems(self.record["language"])
        self._lexical = Lexical(folder / LEXICAL, self.stems)
        self._vectors: NDArray[np.float32] | None = None
        self._embedder: Embedder | None = None
        if dense and self.record["embedder"]:
            self._open_dense(self.record["embedder"])

    def __len__(self) -> int:
        return len(self.chunks)

    @property
    def embedder(self) -> Embedder | None:
        """The embedding model that questions are embedded with; None where words alone count."""
        return self._embedder

    def _open_dense(self, embedder: Mapping[str, str]) -> None:
        """Open the vectors and their model; without it words are searched all the same."""
        with reading(self.folder / VECTORS, REBUILD):
            vectors = np.load(self.folder / VECTORS, mmap_mode="r", allow_pickle=False)
        try:
            opened = open_embedder(embedder["name"])
        except StropError as e:
            self.notes.append(f"only words are searched: {e}")
            return
        if opened.sha256 != embedder["sha256"]:
            self.notes.append(
                f"only words are searched: {embedder['name']} has other weights than when the "
                f"documents were indexed; {REBUILD}"
            )
            return
        self._vectors, self._embedder = vectors, opened

    def search(self, question: str, k: int = 5) -> list[Hit]:
        """Return the k best chunks for a question, best first; exact over all chunks.

        A chunk's score is the mean over both rankings of (RRF + 1) / (RRF + rank), the ranking by
        meaning weighted by how far its embedding model is trusted. Chunks without a word of the
        question are not ranked by words.

        Args:
            question: any text.
            k: most hits.

        Raises:
            ConfigError: the question is empty, or k is not positive.
        """
        if k < 1:
            raise ConfigError(f"k is {k}; give 1 or more")
        lexical, dense = self._scores(question)
        fused = self._fused(lexical, dense, max(_CANDIDATES, k))
        return [
            self._hit(number, score, float(lexical[number]), dense)
            for number, score in list(fused.items())[:k]
        ]

    def rankings(self, question: str) -> dict[str, list[int]]:
        """Return the numbers of the best chunks by `words`, by `meaning` where it has vectors, `fused`.

        Raises:
            ConfigError: the question is empty.
        """
        lexical, dense = self._scores(question)
        ranks = {"words": best(lexical, _CANDIDATES, above=0.0).tolist()}
        if dense is not None:
            ranks["meaning"] = best(dense, _CANDIDATES).tolist()
        return ranks | {"fused": list(self._fused(lexical, dense, _CANDIDATES))}

    def embedded(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors of texts by the index's embedding model, one caller at a time.

        Raises:
            ConfigError: it has none.
        """
        if self._embedder is None:
            raise ConfigError(f"{self.folder} has words alone and no embedding model")
        with self._lock:  # tokenizers are not to be used by several threads
            return self._embedder.encode(texts)

    def document_counts(self, stems: list[str]) -> list[int]:
        """Return how many chunks have each stem."""
        return self._lexical.document_counts(stems)

    def _scores(self, question: str) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return BM25 and cosine of each chunk; the latter None where words alone count."""
        if not question.strip():
            raise ConfigError("the question is empty")
        lexical = self._lexical.scores(question)
        if len(lexical) != len(self.chunks):
            raise DataError(f"{self.folder} is damaged: its parts differ in length; {REBUILD}")
        if self._vectors is None or self._embedder is None:
            return lexical, None
        return lexical, self._vectors @ self.embedded([question])[0]

    def _fused(
        self, lexical: NDArray[np.float32], dense: NDArray[np.float32] | None, depth: int
    ) -> dict[int, float]:
        rankings = [best(lexical, depth, above=0.0)]
        if dense is None or self._embedder is None:
            return fuse(rankings, [1.0])
        return fuse([*rankings, best(dense, depth)], [1.0, self._embedder.trust])

    def _hit(
        self, number: int, score: float, lexical: float, dense: NDArray[np.float32] | None
    ) -> Hit:
        chunk = self.chunks[number]
        return Hit(
            text=chunk["text"],
            source=chunk["source"],
            score=score,
            title=chunk["title"],
            document=chunk["document"],
            chunk=number,
            lexical=lexical,
            dense=None if dense is None else float(dense[number]),
            fields=chunk.get("fields", {}),
        )


def best(scores: NDArray[np.float32], count: int, above: float | None = None) -> NDArray[np.int64]:
    """Return the numbers of the highest scores, highest first, the earlier of equal ones first."""
    count = min(count, len(scores))
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    if above is not None and least <= above:
        numbers = np.flatnonzero(scores > above)
    else:
        numbers = np.flatnonzero(scores >= least)
    order = np.argsort(-scores[numbers], kind="stable")[:count]
    ordered: NDArray[np.int64] = numbers[order]
    return ordered


def fuse(rankings: list[NDArray[np.int64]], weights: list[float]) -> dict[int, float]:
    """Return the fused score of each number that a ranking has, highest first.

    sum_r w_r (RRF + 1) / (RRF + rank_r) / sum_r w_r
    """
    scores: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, number in enumerate(ranking.tolist(), 1):
            share = weight * (RRF + 1) / (RRF + rank) / sum(weights)
            scores[number] = scores.get(number, 0.0) + share
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
