"""Words of texts of any length, with little more memory than the text itself."""

import re
from collections.abc import Iterator

_SPACE = re.compile(r"\s")
_PART = 1 << 16


def parts_of_text(text: str) -> Iterator[str]:
    """Yield the text in parts of some 65,000 characters, each up to white space."""
    start = 0
    while start < len(text):
        space = _SPACE.search(text, start + _PART)
        end = space.start() if space else len(text)
        yield text[start:end]
        start = end


def squeezed(text: str) -> str:
    """Return the words of a text with one space between them."""
    parts = (" ".join(part.split()) for part in parts_of_text(text))
    return " ".join(part for part in parts if part)


def first_words(text: str, count: int) -> list[str]:
    """Return the first `count` words of a text, or all that it has."""
    words: list[str] = []
    for part in parts_of_text(text):
        words += part.split()
        if len(words) >= count:
            break
    return words[:count]
