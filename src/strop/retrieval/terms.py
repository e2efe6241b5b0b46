"""Terms of texts for lexical search: words, and pairs of characters in scripts without spaces."""

import re
import unicodedata

import regex

_ASCII = re.compile(r"\w+")
_RUNS = regex.compile(
    r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー々]+)"
    r"|([\p{L}\p{M}\p{N}_]+?)(?=[^\p{L}\p{M}\p{N}_]|[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}"
    r"\p{Lao}\p{Khmer}\p{Myanmar}]|$)"
)


def terms_of(text: str) -> list[str]:
    """Return the terms of a text, in order, a repeated one each time.

    A term is a word in lower case, in compatible form (NFKC). A run of characters of a script that
    puts no spaces between words gives its characters and each two that stand side by side, so that
    a word is found wherever it stands.
    """
    if text.isascii():
        return _ASCII.findall(text.lower())
    terms: list[str] = []
    for match in _RUNS.finditer(unicodedata.normalize("NFKC", text).casefold()):
        run = match[1]
        if run is None:
            terms.append(match[2])
        else:
            terms += run
            terms += [run[i : i + 2] for i in range(len(run) - 1)]
    return terms
