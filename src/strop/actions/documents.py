"""Indexing documents, searching them."""

from pathlib import Path
from typing import Any

from strop.core.progress import Progress, silent


def index(
    docs: Path,
    out: Path,
    *,
    chunk_tokens: int = 256,
    embedder: str = "auto",
    rebuild: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Index documents, or bring their index up to date, and return what it holds.

    Args:
        docs: a file or a folder of text, Markdown, HTML, PDF, DOCX or JSONL files.
        out: folder of the index.
        chunk_tokens: most tokens of a chunk.
        embedder: an embedding model, "auto" or "none".
        rebuild: index everything anew.
        progress: called while documents are read.

    Raises:
        StropError: the documents or the index cannot be used.
    """
    from strop.retrieval.building import Indexing, build_index

    how = Indexing(chunk_tokens, embedder, rebuild, progress)
    return build_index(docs, out, how)


def search(folder: Path, question: str, *, k: int = 5, dense: bool = True) -> dict[str, Any]:
    """Return the best chunks for a question.

    Args:
        folder: of an index.
        question: any text.
        k: most hits.
        dense: search by meaning too.

    Raises:
        StropError: there is no index, or it is damaged.
    """
    from strop.retrieval.index import Index

    opened = Index(folder, dense=dense)
    hits = opened.search(question, k)
    return {"hits": [hit.as_dict() for hit in hits], "notes": opened.notes}
