"""Shows a row as the model will see it: what is learned, what is context, special, cut off."""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from strop.core.errors import DataError
from strop.core.tokens import IGNORE_INDEX
from strop.data.encoding.encode import coder, example_of, planned
from strop.data.encoding.supervision import EVERYTHING, Supervision
from strop.data.reading.columns import Columns
from strop.data.reading.read import examine
from strop.data.reading.sources import source_name
from strop.data.rows import Row

Kind = Literal["supervised", "context", "special", "special_supervised", "cut"]

MEANING: dict[Kind, str] = {
    "supervised": "learned",
    "special_supervised": "special token, learned",
    "context": "only read",
    "special": "special token, only read",
    "cut": "cut off",
}
"""What becomes of each kind of piece, in words."""


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
    """Return the row's text in pieces, each with what becomes of it in training.

    The pieces together are the whole text, also where tokens share a character. A plain text is
    never cut: what is beyond `max_length` is learned as a row of its own. A row of which nothing
    would be learned is shown as well.

    Raises:
        DataError: the chat template refuses the row.
    """
    prepared = coder(tokenizer)
    plan = planned(row, tokenizer, prepared, supervision, True)
    code = prepared.fast.encode(plan.text, add_special_tokens=False)
    example = example_of(row, plan, code, prepared)
    lead = len(plan.begins)
    pieces: list[Piece] = []
    at = 0
    for i, (token, label) in enumerate(zip(example.ids, example.labels, strict=True)):
        if lead <= i < lead + len(code.ids):
            end = max(at, code.offsets[i - lead][1])
            text, at = plan.text[at:end], end
        else:
            text = tokenizer.convert_ids_to_tokens(token)
        kind: Kind = "supervised" if label != IGNORE_INDEX else "context"
        if token in prepared.specials:
            kind = "special" if label == IGNORE_INDEX else "special_supervised"
        if max_length is not None and i >= max_length and row.messages is not None:
            kind = "cut"
        pieces.append(Piece(text, kind, 1))
    return list(_joined(pieces))


def _joined(pieces: Iterable[Piece]) -> Iterable[Piece]:
    held: Piece | None = None
    for piece in pieces:
        if held is not None and held.kind == piece.kind:
            held = Piece(held.text + piece.text, held.kind, held.tokens + piece.tokens)
            continue
        if held is not None:
            yield held
        held = piece
    if held is not None:
        yield held


def row_at(source: Any, line: int | None = None, columns: Columns | None = None) -> Row:
    """Return the row that begins at a line of the source, or the first; others may be broken.

    Raises:
        DataError: no row begins there, or it cannot be used.
    """
    found = examine(source, columns)
    starts = sorted({row.line for row in found.rows} | {fault.line for fault in found.faults})
    line = starts[0] if line is None else line
    for row in found.rows:
        if row.line == line:
            return row
    name = source_name(source)
    if reasons := [fault.reason for fault in found.faults if fault.line == line]:
        raise DataError(f"{name}: the row at line {line} cannot be used: {reasons[0]}")
    raise DataError(
        f"{name} has no row at line {line}; its rows stand at {starts[0]} to {starts[-1]}"
    )


STYLE = """<style>
.row-text{white-space:pre-wrap;font-family:monospace;line-height:1.5}
.row-text .supervised{background:#c6efce;color:#14532d}
.row-text .special{color:#6b7280;font-style:italic}
.row-text .special_supervised{background:#86d39a;color:#14532d;font-style:italic}
.row-text .cut{color:#9ca3af;text-decoration:line-through}
</style>"""
"""What `as_html` needs once on a page."""


def as_html(pieces: Iterable[Piece]) -> str:
    """Return the pieces as HTML; everything from the data is escaped."""
    spans = (
        f'<span class="{piece.kind}" title="{piece.tokens} tokens, {MEANING[piece.kind]}">'
        f"{html.escape(piece.text)}</span>"
        for piece in pieces
    )
    return f'<div class="row-text">{"".join(spans)}</div>'


def legend() -> str:
    """Return as HTML what the colours mean."""
    words = (f'<span class="{kind}">{text}</span>' for kind, text in MEANING.items())
    return f'<p class="row-text">{" &nbsp; ".join(words)}</p>'
