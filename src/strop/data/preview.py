"""Preview of a row as the model will see it: supervised, context, special tokens, cut off."""

import html
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from strop.core.errors import DataError
from strop.core.system.visible import visible
from strop.core.tokens import IGNORE_INDEX
from strop.data.encoding.encode import characters, labelled
from strop.data.encoding.length import Fit
from strop.data.encoding.prepared_tokenizer import prepare
from strop.data.encoding.supervised_text import supervised_text
from strop.data.encoding.supervision import EVERYTHING, Supervision
from strop.data.reading.columns import Columns
from strop.data.reading.read import examine, source_name
from strop.data.rows import Row
from strop.data.token_windows import encode_text

Kind = Literal["supervised", "context", "special", "special_supervised", "cut"]

MEANING: dict[Kind, str] = {
    "supervised": "learned",
    "special_supervised": "special token, learned",
    "context": "context (not learned)",
    "special": "special token (not learned)",
    "cut": "cut off",
}
"""Kind of piece -> its description."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring tokens of one kind."""

    text: str
    kind: Kind
    tokens: int


def show(
    row: Row,
    tokenizer: Any,
    *,
    max_length: int | None = None,
    supervision: Supervision = EVERYTHING,
) -> list[Piece]:
    """Return the row's text in pieces of one kind each.

    The pieces together are the whole text, also where tokens share a character. A plain text is
    never cut: what is beyond `max_length` becomes another example. A row without a supervised
    token is shown as well.

    Raises:
        DataError: the chat template refuses the row.
    """
    prepared = prepare(tokenizer)
    text = supervised_text(row, prepared, supervision, verify=True)
    encoding = encode_text(prepared.backend, text.text)
    example = labelled(row, text, encoding, prepared)
    special = np.isin(example.ids, list(prepared.special_ids))
    learned = np.array(example.labels) != IGNORE_INDEX
    kinds = np.where(learned, np.where(special, 3, 0), np.where(special, 2, 1))
    kinds[Fit(max_length).visible(example) :] = 4
    lead = len(text.begin_ids)
    tail = lead + len(encoding)
    pieces: list[Piece] = []
    at = 0
    for start, end in itertools.pairwise(_borders(kinds, lead, tail)):
        if lead <= start < tail:
            until = max(at, characters(encoding, end - 1 - lead)[1])
            part, at = text.text[at:until], until
        else:
            part = "".join(tokenizer.convert_ids_to_tokens(example.ids[start:end]))
        pieces.append(Piece(part, _KINDS[kinds[start]], end - start))
    return list(_joined(pieces))


_KINDS: tuple[Kind, ...] = ("supervised", "context", "special", "special_supervised", "cut")


def _borders(kinds: NDArray[np.int_], lead: int, tail: int) -> list[int]:
    """Return where the tokens of one kind begin and end, and those of the text itself."""
    changes = (np.flatnonzero(np.diff(kinds)) + 1).tolist()
    return sorted({0, lead, tail, len(kinds), *changes})


def _joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    for kind, group in itertools.groupby(pieces, key=lambda piece: piece.kind):
        same = list(group)
        yield Piece("".join(p.text for p in same), kind, sum(p.tokens for p in same))


def row_at(source: Any, line: int | None = None, columns: Columns | None = None) -> Row:
    """Return the row that begins at a line of the source, or the first; others may be broken.

    Raises:
        DataError: no row begins there, or it cannot be used.
    """
    examined = examine(source, columns)
    lines = {row.line for row in examined.rows} | {fault.line for fault in examined.faults}
    starts = sorted(lines)
    line = starts[0] if line is None else line
    for row in examined.rows:
        if row.line == line:
            return row
    name = source_name(source)
    if reasons := [fault.reason for fault in examined.faults if fault.line == line]:
        raise DataError(f"{name}: the row at line {line} cannot be used: {reasons[0]}")
    raise DataError(
        f"{name} has no row at line {line}; its rows stand at {starts[0]} to {starts[-1]}"
    )


STYLE = """
.row-text { white-space: pre-wrap; font-family: ui-monospace, monospace; line-height: 1.7; }
.row-text span { text-decoration-thickness: 2px; text-underline-offset: 3px; }
.row-text .supervised { background: #d3f2dc; color: #0f3d22; text-decoration: underline solid; }
.row-text .special { color: #55606f; font-style: italic; text-decoration: underline dotted; }
.row-text .special_supervised { background: #a9e2bb; color: #0f3d22; font-style: italic;
  text-decoration: underline double; }
.row-text .cut { color: #55606f; text-decoration: line-through; }
@media screen and (prefers-color-scheme: dark) {
  .row-text .supervised { background: #16452b; color: #d9f7e3; }
  .row-text .special_supervised { background: #20633d; color: #e6fbee; }
  .row-text .special, .row-text .cut { color: #a3adbd; }
}
"""
"""Style sheet for `as_html`; kinds differ by colour and by the line under the text."""


def as_html(pieces: Iterable[Piece]) -> str:
    """Return the pieces as HTML; everything from the data is escaped."""
    spans = (
        f'<span class="{piece.kind}" title="{piece.tokens} tokens, {MEANING[piece.kind]}">'
        f"{html.escape(visible(piece.text))}</span>"
        for piece in pieces
    )
    return f'<div class="row-text" dir="auto">{"".join(spans)}</div>'
