"""The folder of an index: its files, how chunks are written and read, checksums of all of it."""

import json
import mmap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from strop.core.digest import changed_file, folder_digests
from strop.core.errors import ConfigError, DataError
from strop.core.files import read_sealed, reading, write_sealed

RECORD, CHUNKS, STARTS, VECTORS, LEXICAL = (
    "index.json",
    "chunks.jsonl",
    "chunk_starts.npy",
    "vectors.npy",
    "lexical",
)
VERSION = 2
REBUILD = "index the documents again with --rebuild"


def write_chunks(folder: Path, chunks: Iterable[Mapping[str, Any]]) -> int:
    """Write chunks as lines of JSON, and where each line begins; return their number."""
    starts = [0]
    with (folder / CHUNKS).open("wb") as file:
        for chunk in chunks:
            line = json.dumps(chunk, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
            file.write(line)
            starts.append(starts[-1] + len(line))
    np.save(folder / STARTS, np.array(starts, np.int64), allow_pickle=False)
    return len(starts) - 1


class Chunks:
    """Chunks of an index, each read from the file when it is needed.

    Args:
        folder: of the index.

    Raises:
        DataError: the files are missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        with reading(folder, REBUILD):
            self._starts = np.load(folder / STARTS, mmap_mode="r", allow_pickle=False)
            with (folder / CHUNKS).open("rb") as file:
                self._lines: Any = b""
                if len(self) > 0:
                    self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> dict[str, Any]:
        line = self._lines[self._starts[number] : self._starts[number + 1]]
        chunk: dict[str, Any] = json.loads(line)
        return chunk

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[number] for number in range(len(self)))

    def part(self, first: int, count: int) -> Iterator[dict[str, Any]]:
        """Yield some chunks that follow one another."""
        return (self[number] for number in range(first, first + count))


def searchable(chunk: Mapping[str, Any]) -> str:
    """Return the text of a chunk that is searched: its title and its text."""
    return f"{chunk['title']}\n{chunk['text']}" if chunk["title"] else str(chunk["text"])


def seal(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record of an index, with the digest of each of its files."""
    write_sealed(folder / RECORD, {**record, "version": VERSION, "digests": folder_digests(folder)})


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of an index whose files are all as they were written.

    Raises:
        ConfigError: there is no index.
        DataError: a file is missing or damaged, or the index is of another version of strop.
    """
    if not (folder / RECORD).is_file():
        what = "holds no index" if folder.is_dir() else "is not there"
        raise ConfigError(f"{folder} {what}; make one: strop index DOCS --out {folder}")
    record = read_sealed(folder / RECORD, hint=REBUILD)
    if record.get("version") != VERSION:
        raise DataError(f"{folder} is an index of another version of strop; {REBUILD}")
    if (file := changed_file(folder, record["digests"])) is not None:
        raise DataError(f"{file} is damaged: it is not what was written there; {REBUILD}")
    return record
