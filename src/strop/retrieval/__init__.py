"""Documents and questions: an index of chunks, searched by words and by meaning."""

from strop.core.lazy import public

_HOMES = {
    "Hit": "strop.retrieval.index",
    "Index": "strop.retrieval.index",
    "Indexing": "strop.retrieval.building",
    "build_index": "strop.retrieval.building",
}

__getattr__ = public(__name__, _HOMES)
