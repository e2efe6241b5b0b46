"""Stems of words, so that a question finds other forms of its words: cost, costs, costing."""

import functools
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LANGUAGES = {
    "danish": "DANISH",
    "dutch": "DUTCH",
    "english": "EN_PLUS",
    "french": "FRENCH",
    "german": "GERMAN",
    "italian": "ITALIAN",
    "norwegian": "NORWEGIAN",
    "portuguese": "PORTUGUESE",
    "russian": "RUSSIAN",
    "spanish": "SPANISH",
    "swedish": "SWEDISH",
    "turkish": "TURKISH",
}
"""Languages with stemming rules in Snowball and stop words in bm25s, whose names of lists end so."""
_LEAST = 0.1
"""Share of a text's terms that must be stop words of a language for the text to be in it."""


class Stems:
    """Terms to stems, by Snowball's rules of one language (Porter 2001); each to itself without one.

    Args:
        language: one of `LANGUAGES`, or None.
    """

    def __init__(self, language: str | None) -> None:
        import Stemmer

        self._stemmer: Any = None if language is None else Stemmer.Stemmer(language)
        self._lock = threading.Lock()

    def __call__(self, terms: Iterable[str]) -> list[str]:
        """Return the stem of each term, in order."""
        if self._stemmer is None:
            return list(terms)
        with self._lock:  # a stemmer is not to be used by several threads
            return list(self._stemmer.stemWords(list(terms)))


@functools.cache  # asked for at every hit of every question
def stop_words() -> Mapping[str, frozenset[str]]:
    """Return bm25s' stop words of each language of `LANGUAGES`, and of others it has, by its name."""
    from bm25s import stopwords

    names = {ending: language for language, ending in LANGUAGES.items()}
    endings = [name.removeprefix("STOPWORDS_") for name in dir(stopwords) if "STOPWORDS_" in name]
    return {
        names.get(ending, ending.lower()): frozenset(getattr(stopwords, f"STOPWORDS_{ending}"))
        for ending in endings
    }


def language_of(terms: Sequence[str]) -> str | None:
    """Return the language whose stop words are most of a text's terms, None where none are many.

    Args:
        terms: of a text, a repeated one each time.
    """
    counts = Counter(terms)
    lists = stop_words()
    shares = {name: sum(counts[word] for word in lists[name]) for name in LANGUAGES}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= _LEAST * max(1, len(terms)) else None
