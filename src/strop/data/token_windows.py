"""Tokens of texts of any length, in memory of a few bytes a token.

The backend's own record of a token takes 100 to 250 bytes. A long text is therefore tokenized in
windows that overlap, and of each window only ids and places are kept. What a window's end does to
its tokens must not matter: in the middle of their overlap two windows have to give the very same
tokens, else the window grows. So the tokens are those of the whole text. Unigram models are left
out: they add up scores over a whole text, and rounding decides between equal ones.
"""

import bisect
from array import array
from collections.abc import Sequence
from typing import Any

from strop.core.errors import DataError

WINDOW = 2**18
"""Characters of a window; a shorter text is tokenized at once."""

OVERLAPS = 32
"""Two windows share one of so many parts of the first."""

LONGEST = 2**20
"""Characters of a window that has no place where the next agrees, beyond which a text is refused."""


class LongEncoding:
    """Token ids of a long text, and the characters that each token stands for."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self._starts = array("L")
        self._ends = array("L")
        self._numbers: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def token_to_chars(self, token: int) -> tuple[int, int]:
        """Return the characters of the text that a token stands for: from, up to."""
        return self._starts[token], self._ends[token]

    def add(self, window: "_Window", begin: int, end: int) -> None:
        """Append tokens `begin` up to `end` of a window."""
        number = self._numbers.setdefault  # one object a number, not one a token
        self.ids += [number(i, i) for i in window.ids[begin:end]]
        self._starts.extend(window.starts[begin:end])
        self._ends.extend(window.ends[begin:end])


class _Window:
    """Tokens of the characters `begin` up to `end` of a text, by places in the text."""

    def __init__(self, backend: Any, text: str, begin: int, end: int) -> None:
        encoding = backend.encode(text[begin:end], add_special_tokens=False)
        offsets = encoding.offsets
        self.begin = begin
        self.end = min(end, len(text))
        self.ids = array("L", encoding.ids)
        self.starts = array("L", (begin + start for start, _ in offsets))
        self.ends = array("L", (begin + end for _, end in offsets))

    def between(self, begin: int, end: int) -> slice:
        """Return the tokens that begin at the characters `begin` up to `end`."""
        first = bisect.bisect_left(self.starts, begin)
        return slice(first, bisect.bisect_left(self.starts, end, first))

    def agrees(self, other: "_Window", mine: slice, others: slice) -> bool:
        """Return whether these are some, and the same, tokens of two windows."""
        return mine.start < mine.stop and all(
            a[mine] == b[others]
            for a, b in (
                (self.ids, other.ids),
                (self.starts, other.starts),
                (self.ends, other.ends),
            )
        )


def encode_texts(backend: Any, texts: Sequence[str]) -> list[Any]:
    """Return the encoding of each text, or DataError for one that is refused; see `encode_text`."""
    short = [text for text in texts if len(text) <= WINDOW]
    together = iter(backend.encode_batch(short, add_special_tokens=False))
    return [next(together) if len(text) <= WINDOW else _or_refusal(backend, text) for text in texts]


def _or_refusal(backend: Any, text: str) -> Any:
    try:
        return encode_text(backend, text)
    except DataError as e:
        return e


def encode_text(backend: Any, text: str) -> Any:
    """Return the encoding of a text: the backend's own, or a `LongEncoding` of the same tokens.

    Args:
        backend: a `tokenizers` backend that neither cuts nor pads.
        text: the text.

    Raises:
        DataError: a stretch of more than `LONGEST` characters is one word to the tokenizer.
    """
    if len(text) <= WINDOW or type(backend.model).__name__ == "Unigram":
        return backend.encode(text, add_special_tokens=False)
    whole = LongEncoding()
    current, first = _Window(backend, text, 0, WINDOW), 0
    shared = WINDOW // OVERLAPS
    while current.end < len(text):
        middle = current.end - 3 * shared // 4, current.end - shared // 4
        begin = current.end - shared
        following = _Window(backend, text, begin, begin + WINDOW)
        mine, theirs = current.between(*middle), following.between(*middle)
        if current.agrees(following, mine, theirs):
            whole.add(current, first, mine.start)
            current, first = following, theirs.start
        elif current.end - current.begin > LONGEST:
            raise DataError(_endless(text, middle[0]))
        else:
            longer = current.end + (current.end - current.begin)
            current = _Window(backend, text, current.begin, longer)
    whole.add(current, first, len(current.ids))
    return whole


def _endless(text: str, place: int) -> str:
    return (
        f"around character {place:,} of {len(text):,}, {text[place : place + 24]!r}, more than "
        f"{LONGEST:,} characters are one word to the tokenizer, which would take memory without "
        "bound; put white space between words, or take such stretches out"
    )
