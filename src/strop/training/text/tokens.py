"""Texts as token ids in a file, read where they lie."""

import dataclasses
import hashlib
import tempfile
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from strop.core.files import writing
from strop.data.encoding.encode import encoded
from strop.data.rows import BrokenRowsError, Fault, Row

KIND = np.dtype("<i4")


@dataclasses.dataclass(frozen=True, slots=True)
class TokenFile:
    """Token ids of texts, one after the other, in a file that nobody else sees."""

    ids: np.ndarray
    """[N], mapped from the file."""
    lines: list[int]
    """Line of each text."""
    starts: list[int]
    """Index of the first token of each text."""
    lengths: list[int]
    """Tokens of each text."""
    sha256: str

    @property
    def places(self) -> dict[int, int]:
        """Number of each text by its line."""
        return {line: i for i, line in enumerate(self.lines)}

    def digest_with(self, *more: Any) -> str:
        """Return the SHA-256 of the tokens and of what else decides what is trained on."""
        digest = hashlib.sha256(self.sha256.encode())
        for part in more:
            digest.update(repr(part).encode())
        return digest.hexdigest()


def token_file(rows: Iterable[Row], tokenizer: Any, source: str, folder: Path | None) -> TokenFile:
    """Return the tokens of plain texts, each ended by the tokenizer's end of text.

    Args:
        rows: the texts; one after the other is in memory.
        tokenizer: a transformers tokenizer.
        source: of the rows, for errors.
        folder: in which the file takes room until the process ends; None is the system's for such.

    Raises:
        BrokenRowsError: texts that cannot be encoded, all of them listed.
        UnsupportedError: the disk is full.
    """
    digest, faults = hashlib.sha256(), list[Fault]()
    lines, starts, lengths, total, count = array("q"), array("q"), array("q"), 0, 0
    place = folder or Path(tempfile.gettempdir())
    with tempfile.TemporaryFile(dir=place) as file:
        with writing(place):
            for example in encoded(rows, tokenizer, verified=0):
                count += 1
                if isinstance(example, Fault):
                    faults.append(example)
                    continue
                part = np.asarray(example.ids, dtype=KIND)
                file.write(part.tobytes())
                digest.update(f"{len(part)} ".encode() + part.tobytes())
                lines.append(example.line)
                starts.append(total)
                lengths.append(len(part))
                total += len(part)
            file.flush()
        if faults:
            raise BrokenRowsError(source, faults, count)
        # The mapping outlives the file's name and this handle of it.
        ids = np.memmap(file, dtype=KIND, mode="r") if total else np.empty(0, KIND)
    return TokenFile(ids, [*lines], [*starts], [*lengths], digest.hexdigest())
