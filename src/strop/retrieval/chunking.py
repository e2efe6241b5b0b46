"""Chunks: stretches of a section that follow its structure and have at most so many tokens."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

BYTES_OF_TOKEN = 4
"""Bytes of UTF-8 that count as one token: about what vocabularies of language models need."""
_HEADING = re.compile(r"(#{1,6})[ \t]+(\S.*?)[ \t#]*$")
_BLANK_LINES = re.compile(r"(?<=\n)[ \t]*\r?\n+")
_FENCE = re.compile(r"[ \t]*(```|~~~)")
_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])|\n")
_WORD = re.compile(r"\s+")
_TITLE_SEPARATOR = " › "


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk's text, verbatim, and the headings that it stands under."""

    text: str
    title: str


def tokens_in(text: str) -> int:
    """Return the number of tokens that a text counts as: its bytes of UTF-8 / 4, rounded up."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_OF_TOKEN)


def chunks_of(text: str, title: str, most: int) -> Iterator[Piece]:
    """Yield the chunks of a text.

    Paragraphs under one heading come together as long as they fit; a longer paragraph is divided
    between sentences, a longer sentence between words, a longer word anywhere. Text of the chunk
    is text of the document, from its first to its last character.

    Args:
        text: of a section, with Markdown's headings.
        title: of its document.
        most: tokens of a chunk, as `tokens_in` counts them.
    """
    for headings, part in _parts(text):
        path = _TITLE_SEPARATOR.join(dict.fromkeys(h for h in (title, *headings) if h))
        for piece in _packed(_divided(part, most), most):
            if piece.strip():
                yield Piece(piece.strip(), path)


def _parts(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what stands under each heading, with the headings above it; headings are in the text."""
    levels: dict[int, str] = {}
    lines: list[str] = []
    body = False
    fenced = False
    for line in text.splitlines(keepends=True):
        fenced ^= bool(_FENCE.match(line))
        match = None if fenced else _HEADING.match(line.rstrip("\r\n"))
        if match:
            if body:
                yield tuple(levels[n] for n in sorted(levels)), "".join(lines)
                lines, body = [], False
            level = len(match[1])
            levels = {n: h for n, h in levels.items() if n < level} | {level: match[2]}
        else:
            body = body or not line.isspace()
        lines.append(line)
    yield tuple(levels[n] for n in sorted(levels)), "".join(lines)


def _divided(text: str, most: int) -> Iterator[str]:
    """Yield parts of a text that fit, whole paragraphs where possible; joined they are the text."""
    for paragraph in _split(text, _BLANK_LINES):
        if tokens_in(paragraph) <= most:
            yield paragraph
            continue
        for sentence in _split(paragraph, _SENTENCE):
            if tokens_in(sentence) <= most:
                yield sentence
                continue
            for word in _split(sentence, _WORD):
                width = max(1, most)  # characters of four bytes fit too
                yield from (word[i : i + width] for i in range(0, len(word), width))


def _split(text: str, border: re.Pattern[str]) -> Iterator[str]:
    """Yield what stands between borders, each with the border after it."""
    start = 0
    for match in border.finditer(text):
        if match.end() > start:
            yield text[start : match.end()]
            start = match.end()
    if start < len(text):
        yield text[start:]


def _packed(parts: Iterator[str], most: int) -> Iterator[str]:
    """Yield parts joined as long as they fit; a short last one goes to the one before it."""
    before, current, size = "", "", 0
    for part in parts:
        tokens = tokens_in(part)
        if current and size + tokens > most:
            if before:
                yield before
            before, current, size = current, "", 0
        current += part
        size += tokens
    if before and tokens_in(current) <= most // 4:
        before, current = before + current, ""
    yield from (text for text in (before, current) if text)
