"""Survey of columns: counts of their values, from which labels, marks and content are told apart."""

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from strop.data.formats.record import is_missing, spelled

LONGEST_LABEL = 64
"""Most characters of a label."""

_MOST_DISTINCT = 1000

_BOOKKEEPING = re.compile(
    r"""
    (?:https?://|www\.)\S+                               # an address
    | [\x21-\x7e]{0,64}[\d/\\@][\x21-\x7e]{0,64}         # a number, an id, a hash, a path, a date
    | \d{4}-\d\d-\d\d[ T][\d:.,+Z -]{4,24}               # a date and a time
    | (?:\w{3,9},?\ )?(?:\d{1,2}\.?\ \w{3,9}|\w{3,9}\ \d{1,2}),?\ \d{4}(?:,?\ [\d:]+.{0,12})?
    """,
    re.VERBOSE,
)
"""Pattern of a whole cell that only identifies or dates a row."""

_BOOKKEEPING_NAMES = frozenset(
    (
        *("id", "ids", "idx", "index", "uid", "uuid", "guid", "key", "url", "uri", "link", "links"),
        *("source", "src", "dataset", "data_source", "subset", "split", "fold", "file", "filename"),
        *("path", "date", "time", "timestamp", "created", "updated", "lang", "language", "locale"),
        *("license", "licence", "version", "model", "model_name", "author", "annotator", "user_id"),
        *("hash", "md5", "sha", "sha1", "sha256", "meta", "metadata", "extra_info", "info"),
    )
)
_BOOKKEEPING_ENDS = ("_id", "_ids", "_idx", "_url", "_uri", "_at", "_date", "_hash", "-id", " id")
_CATEGORY_NAMES = frozenset(
    (
        *("category", "categories", "type", "task", "difficulty", "level", "subject", "domain"),
        *("kind", "field", "area", "skill", "tag", "tier", "grade", "complexity"),
    )
)
_CONDITIONS = frozenset(
    (
        *("style", "tone", "genre", "topic", "mood", "persona", "character", "audience", "format"),
        *("target", "answer", "label", "sentiment", "emotion", "intent"),
    )
)
"""Words in the names of columns that may describe the desired answer."""
_FEW = 50
"""Number of rows below which the values of a category may all differ."""
_NAME_PARTS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")
_SEVERAL_WORDS = re.compile(r"\S\s+\S")
_MARKS = frozenset(("true", "false"))


@dataclass(slots=True)
class Column:
    """Counts of the values of one column."""

    filled: int = 0
    """Rows in which it is not empty."""
    texts: int = 0
    numbers: int = 0
    """Numbers and truth values that are no texts."""
    truths: int = 0
    """Truth values, or texts that spell one."""
    nested: int = 0
    """Lists and objects with a text in them."""
    longest: int = 0
    """Number of characters of the longest text."""
    distinct: dict[str, None] = field(default_factory=dict)
    """Values as texts, the first thousand different ones."""
    multiline: bool = False

    def add(self, value: Any) -> None:
        """Count one value."""
        if is_missing(value):
            return
        self.filled += 1
        if isinstance(value, str):
            self.texts += 1
            text = value.strip()
            self.truths += len(text) < 6 and text.lower() in _MARKS
        elif (number := spelled(value)) is not None:
            self.numbers += 1
            self.truths += isinstance(value, bool)
            text = number
        elif (inner := _text_within(value)) is not None:
            self.nested += 1
            text = inner
        else:
            return
        self.longest = max(self.longest, len(text))
        self.multiline = self.multiline or "\n" in text
        if len(self.distinct) < _MOST_DISTINCT:
            self.distinct[text] = None

    @property
    def marks(self) -> bool:
        """True if most of its values are truth values."""
        return 2 * self.truths > self.filled

    @property
    def short(self) -> bool:
        """True if each value is short enough for a label, on one line."""
        return 0 < self.longest <= LONGEST_LABEL and not self.multiline and not self.nested

    @property
    def repeats(self) -> bool:
        """True if its values are short and each occurs in two rows on average, as labels do."""
        return self.short and 2 * len(self.distinct) <= self.filled

    def content(self, name: str, *, known: bool) -> bool:
        """Return whether it looks like content that a model should see.

        Texts of several words and short texts that vary are content; ids, addresses, dates,
        hashes, numbers and constants are not. Truth values that vary are content too, as they may
        mark or label the row, and so are numbers in a column whose name some format has.

        Args:
            name: of the column.
            known: whether some format reads columns of that name.
        """
        if not self.distinct or (len(self.distinct) == 1 and self.filled > 1):
            return False
        if self.numbers and not (self.texts or self.nested):
            return len(self.distinct) > 1 and (known or self.marks)
        plain = name.strip().lower()
        named = plain in _BOOKKEEPING_NAMES or plain.endswith(_BOOKKEEPING_ENDS)
        if named and not known and (self.short or self.nested):
            return False
        texts = [text for text in self.distinct if not _BOOKKEEPING.fullmatch(text)]
        if len(texts) * 2 <= len(self.distinct):
            return known and self.short
        return self.filled > 1 or any(_SEVERAL_WORDS.search(text) for text in texts)

    def category(self, name: str, *, known: bool) -> bool:
        """Return whether it holds one of a few words in each row, a category such as `open_qa`.

        Args:
            name: of the column.
            known: whether some format reads columns of that name.
        """
        parts = {part.lower() for part in _NAME_PARTS.split(name)}
        named = bool(parts & _CATEGORY_NAMES)
        if parts & _CONDITIONS or (known and not named):
            return False
        if not self.short or self.marks or self.numbers:
            return False
        words = max(len(text.split()) for text in self.distinct)
        if self.repeats:
            return words == 1 or (named and words <= 3)
        return words == 1 and named and self.filled < _FEW


def _text_within(value: Any, depth: int = 0) -> str | None:
    """Return the first text inside a list or an object, or None where there is none."""
    if isinstance(value, str):
        return value.strip() or None
    if depth > 8 or not isinstance(value, (list, tuple, dict)):
        return None
    inner = value.values() if isinstance(value, dict) else value
    return next((text for v in inner if (text := _text_within(v, depth + 1))), None)


class Survey:
    """Columns of a source, each counted at its first access."""

    def __init__(self, values: Callable[[str], Iterable[Any]]) -> None:
        self._values = values
        self._columns: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        """Return a column's counts; of an absent column, zeros."""
        if name not in self._columns:
            column = self._columns[name] = Column()
            for value in self._values(name):
                column.add(value)
        return self._columns[name]


def proposed_mapping(columns: Iterable[Any], survey: Survey) -> str:
    """Return a guess of what --map may say of columns that are of no known format.

    The first column of texts is the prompt; what repeats in few words, a label, is the completion,
    else the next column of texts.
    """
    named = [c for c in columns if isinstance(c, str) and c.strip() and not set(c) & set("=,")]
    texts = [c for c in named if survey[c].content(c, known=False) and not survey[c].nested]
    labels = [c for c in texts if survey[c].repeats]
    prompts = [c for c in texts if c not in labels] or texts
    if not prompts:
        return "ask=prompt,reply=completion"
    rest = [c for c in (*labels, *texts) if c != prompts[0]]
    answer = f",{rest[0].strip()}=completion" if rest else ""
    return shlex.quote(f"{prompts[0].strip()}={'prompt' if rest else 'text'}{answer}")
