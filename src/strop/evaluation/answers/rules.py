"""Rules of voice and form that answers should follow, from a YAML file."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import regex

from strop.core.config import Config
from strop.data.checking.languages import language
from strop.metrics import text
from strop.metrics.json_answers import json_valid

_LIST_LINE = regex.compile(r"\s*(?:[-*•]|\d+[.)])\s+\S")
FORMS: dict[str, Callable[[str], bool]] = {
    "sentence": lambda a: text.sentences(a) == 1 and a.rstrip()[-1:] in ".!?。！？؟।…",
    "question": lambda a: a.rstrip()[-1:] in "?？؟",
    "line": lambda a: bool(a.strip()) and "\n" not in a.strip(),
    "list": lambda a: all(map(_LIST_LINE.match, filter(str.strip, a.splitlines()))) and bool(a),
    "json": lambda a: json_valid(a) == 1,
}
Form = Literal["sentence", "question", "line", "list", "json"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rules(Config):
    """Rules of a file such as `voice.yaml`; what it leaves out is no rule."""

    forbidden: list[str] | None = None
    """Words and phrases that no answer has, in any case."""
    required: list[str] | None = None
    """Words and phrases that every answer has."""
    required_any: list[str] | None = None
    """Words and phrases of which every answer has at least one."""
    min_words: int | None = None
    max_words: int | None = None
    max_characters: int | None = None
    max_sentences: int | None = None
    min_grade: float | None = None
    """Lowest US school grade by the Automated Readability Index."""
    max_grade: float | None = None
    """Highest US school grade by the Automated Readability Index."""
    language: str | None = None
    """Language of every answer, such as German; an answer too short to tell is let pass."""
    form: Form | None = None
    """Form of every answer: one sentence, a question, one line, a list, or JSON."""
    matches: str | None = None
    """Regular expression that matches in every answer."""
    forbidden_pattern: str | None = None
    """Regular expression that matches in no answer."""

    def problems(self) -> Iterator[str]:
        """Yield what cannot work."""
        for name in ("matches", "forbidden_pattern"):
            try:
                regex.compile(getattr(self, name) or "")
            except regex.error as e:
                yield f"{name} is {getattr(self, name)!r}, no regular expression: {e}"
        for name in ("forbidden", "required", "required_any"):
            if not all(
                isinstance(word, str) and word.strip() for word in getattr(self, name) or ()
            ):
                yield f"{name} is {getattr(self, name)!r}; it must be a list of texts"
        if not any(value is not None for value in self.plain().values()):
            yield "the file has no rule; write one such as `max_words: 20`"

    def checks(self) -> dict[str, Callable[[str], bool]]:
        """Return for each rule the test of an answer."""
        plain: Mapping[str, Any] = {k: v for k, v in self.plain().items() if v is not None}
        return {name: functools.partial(_CHECKS[name], value) for name, value in plain.items()}


def _has(phrase: str, answer: str) -> bool:
    """Return whether the words of a phrase stand in an answer, or its signs if it has no word."""
    return text.contains(answer, phrase) == 1


def _matches(pattern: str, answer: str) -> bool:
    try:
        return regex.search(pattern, answer, timeout=5.0) is not None
    except TimeoutError:
        return False


_CHECKS: dict[str, Callable[[Any, str], bool]] = {
    "forbidden": lambda phrases, answer: not any(_has(p, answer) for p in phrases),
    "required": lambda phrases, answer: all(_has(p, answer) for p in phrases),
    "required_any": lambda phrases, answer: any(_has(p, answer) for p in phrases),
    "min_words": lambda least, answer: len(text.words(answer)) >= least,
    "max_words": lambda most, answer: len(text.words(answer)) <= most,
    "max_characters": lambda most, answer: len(answer) <= most,
    "max_sentences": lambda most, answer: text.sentences(answer) <= most,
    "min_grade": lambda least, answer: text.grade(answer) >= least,
    "max_grade": lambda most, answer: text.grade(answer) <= most,
    "language": lambda name, answer: language(answer) in (None, name),
    "form": lambda form, answer: FORMS[form](answer),
    "matches": _matches,
    "forbidden_pattern": lambda pattern, answer: not _matches(pattern, answer),
}
