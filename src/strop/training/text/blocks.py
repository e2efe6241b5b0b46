"""Data of a run on whole texts: blocks of tokens that are read from a file when they are needed."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from strop.core.files import scratch_folder, writing
from strop.core.tokens import IGNORE_INDEX
from strop.planning.plan import Rows, TokenRow
from strop.training.dataset import TrainingData
from strop.training.text.packing import Lazy, Pieces, best_fit

if TYPE_CHECKING:
    import datasets


AT_ONCE = 256
"""Blocks that are written together."""


class Block(NamedTuple):
    """Pieces of texts that are computed as one row."""

    ids: np.ndarray
    lengths: list[int]
    """Tokens of each piece."""

    @property
    def labels(self) -> np.ndarray:
        """Return `ids`, but `IGNORE_INDEX` where a piece begins."""
        labels = self.ids.copy()
        labels[np.cumsum([0, *self.lengths[:-1]])] = IGNORE_INDEX
        return labels


class Blocks(Lazy[Block]):
    """Blocks of the tokens in files."""

    def __init__(self, ids: Sequence[np.ndarray], pieces: Sequence[Pieces], room: int) -> None:
        """Pack pieces of the tokens of several files into blocks of at most `room` tokens."""
        self._ids = ids
        self._starts = np.concatenate([part.starts for part in pieces])
        self._sizes = np.concatenate([part.sizes for part in pieces])
        self._file = np.repeat(np.arange(len(pieces)), [len(part) for part in pieces])
        self._numbers = best_fit(self._sizes.tolist(), room)
        super().__init__(len(self._numbers), self._block)

    def _piece(self, number: int) -> np.ndarray:
        start = self._starts[number]
        return self._ids[self._file[number]][start : start + self._sizes[number]]

    def _block(self, index: int) -> Block:
        numbers = self._numbers[index]
        return Block(
            np.concatenate([self._piece(i) for i in numbers]), self._sizes[numbers].tolist()
        )

    def piece_ids(self) -> Iterator[list[int]]:
        """Yield the tokens of each piece."""
        for number in range(len(self._sizes)):
            yield self._piece(number).tolist()


@dataclasses.dataclass(frozen=True, slots=True)
class TextData(TrainingData[Block]):
    """Whole texts of a run, packed into blocks; none of them is in memory."""

    train: Blocks
    held_out: Blocks
    folder: Path | None
    """Where the trainer's copy of the tokens takes room; None is the system's place for such."""
    weighted = False
    """No token counts more than another."""

    @property
    def token_ids(self) -> Sequence[list[int]]:
        """Tokens of each training block."""
        return Lazy(len(self.train), lambda i: self.train[i].ids.tolist())

    @property
    def labels(self) -> Sequence[list[int]]:
        """Labels of each training block: all tokens but the first of each piece."""
        return Lazy(len(self.train), lambda i: self.train[i].labels.tolist())

    @property
    def texts(self) -> Iterable[list[int]]:
        """Tokens of each piece of a text."""
        return self.train.piece_ids()

    @property
    def sequences(self) -> Iterable[list[int]]:
        """Tokens of every piece."""
        for part in (self.train, self.held_out):
            yield from part.piece_ids()

    @property
    def rows(self) -> Rows:
        """Blocks as plans take them."""
        return Rows(_token_rows(self.train), _token_rows(self.held_out))

    def table(self, rows: Sequence[Block]) -> "datasets.Dataset":
        """Return blocks as TRL's collator takes them, which sets positions by `seq_lengths`.

        They lie in an Arrow file that `datasets` maps into memory; its name goes at once, the file
        with the process.
        """
        import datasets

        kind = pa.list_(pa.int32())
        schema = pa.schema([("input_ids", kind), ("seq_lengths", kind)])
        with scratch_folder("blocks", self.folder) as folder, writing(folder):
            file = folder / "blocks.arrow"
            with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
                for first in range(0, len(rows), AT_ONCE):
                    part = rows[first : first + AT_ONCE]
                    columns = [b.ids for b in part], [b.lengths for b in part]
                    arrays = [pa.array(column, kind) for column in columns]
                    writer.write_batch(pa.record_batch(arrays, schema=schema))
            return datasets.Dataset.from_file(str(file))

    def sets(self) -> tuple["datasets.Dataset", "datasets.Dataset | None"]:
        """Return training and held-out blocks as TRL takes them."""
        return self.table(self.train), self.table(self.held_out) if self.held_out else None


def _token_rows(blocks: Sequence[Block]) -> Sequence[TokenRow]:
    def row(index: int) -> TokenRow:
        block = blocks[index]
        return block.ids, block.labels  # type: ignore[return-value]

    return Lazy(len(blocks), row)
