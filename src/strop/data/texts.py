"""Plain texts of sources that may be larger than memory, gone through anew for each purpose."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from strop.core.errors import DataError
from strop.data.reading.blend import Blend, Part, sources_of
from strop.data.reading.columns import Columns
from strop.data.reading.read import Streamed, streamed
from strop.data.reading.sources import HUB, records
from strop.data.rows import Row, Rows

FORMAT = "text"
"""Format of a source of plain texts."""
FIRST_ROWS, FIRST_CHARACTERS = 1000, 4_000_000
"""Of the texts at the beginning that stay in memory."""


@dataclasses.dataclass(frozen=True, slots=True)
class Texts:
    """Plain texts of one or several sources; iteration reads them from the sources."""

    blend: Blend
    """A row for each text, with a digest in place of the text."""
    first: Mapping[int, Row]
    """Whole rows at the beginning, by line."""
    sources: Sequence[Streamed]

    def __iter__(self) -> Iterator[Row]:
        """Yield the whole rows; lines are numbered across sources."""
        for part, source in zip(self.blend.parts, self.sources, strict=True):
            for row in source:
                yield dataclasses.replace(row, line=row.line + part.before)


def are_texts(data: Any) -> bool:
    """Say whether each source begins with a record of a text and nothing else.

    Raises:
        DataError: a source cannot be read.
    """
    sources = [source.data for source in sources_of(data)]
    if any(isinstance(s, Iterator) or str(s).startswith(HUB) for s in sources):
        return False  # what can be read only once, or is fetched
    firsts = [next(iter(records(source)), (0, {}))[1] for source in sources]
    return all(isinstance(first, dict) and list(first) == ["text"] for first in firsts)


def read_texts(data: Any, columns: Columns) -> Texts:
    """Return the texts that `data` names.

    Args:
        data: as for `sources_of`.
        columns: names that are given.

    Raises:
        DataError: a source cannot be read, some rows cannot be used, or one is no plain text.
    """
    parts: list[Part] = []
    rows: list[Row] = []
    first: dict[int, Row] = {}
    notes: list[str] = []
    streams: list[Streamed] = []
    unread: dict[str, str] = {}
    room, before = FIRST_CHARACTERS, 0
    for source in sources_of(data):
        texts = streamed(source.data, source.columns or columns)
        if texts.layout.format.name != FORMAT:
            raise DataError(
                f"{texts.name} is read as {texts.layout.format.name}, and method text learns plain texts: "
                "give *.txt, *.md or rows with a column text; --method sft takes this data"
            )
        streams.append(texts)
        notes += [*texts.layout.decoded, *texts.layout.notes]
        unread = {**texts.layout.unread, **unread}
        earlier = len(rows)
        for row in texts:
            text, line = row.text or "", before + row.line
            if len(first) < FIRST_ROWS and room > 0:
                room -= len(text)
                first[line] = dataclasses.replace(row, line=line)
            digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16)
            rows.append(Row(line, text=digest.hexdigest()))
        count = len(rows) - earlier
        parts.append(Part(texts.name, source.weight, before, count, FORMAT, None))
        before = rows[-1].line
    name = ", ".join(part.name for part in parts)
    blend = Blend(Rows(rows, FORMAT, name, notes=tuple(notes), unread=unread), parts)
    return Texts(blend, first, streams)
