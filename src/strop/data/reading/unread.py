"""Columns that a format does not read, sorted into content, categories and others."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from strop.data.formats.known import KNOWN_COLUMNS, RATINGS, Format
from strop.data.formats.record import Record, Shapes, is_missing
from strop.data.formats.survey import Column, Survey
from strop.data.rows import Row
from strop.data.words import squeezed

_MOST_OTHER = 0.05
"""Largest share of rows with new text in a column that counts as repeating what was read."""

_WITHOUT_ANSWERS = ("text", "prompt", "classification")
"""Formats whose answer may be in a category column."""

_SPEAKERS = ("role", "from")


@dataclass(slots=True)
class Unread:
    """Columns that a format does not read, by their content."""

    content: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    """Short words that classify rows which have a question and an answer."""
    others: list[str] = field(default_factory=list)
    """Ids, dates, numbers, constants, or text that other columns repeat."""


def unread_columns(
    shapes: Shapes, layout: Format, survey: Survey, rows: Iterable[tuple[Record, Row]]
) -> Unread:
    """Return the columns that the format does not read.

    Args:
        shapes: number of records with each tuple of columns.
        layout: the format.
        survey: the values of the columns.
        rows: the records with their rows; consumed if a column holds text.
    """
    names: dict[str, None] = {}
    for shape in shapes:
        if (read := layout.reads(shape)) is not None:
            names.update(dict.fromkeys(column for column in shape if column not in read))
    unread = Unread()
    answered = layout.name not in _WITHOUT_ANSWERS
    for name in names:
        known = name in KNOWN_COLUMNS and name not in RATINGS
        if not survey[name].content(str(name), known=known):
            unread.others.append(name)
        elif answered and survey[name].category(str(name), known=known):
            unread.categories.append(name)
        else:
            unread.content.append(name)
    texts = [c for c in unread.content if _may_repeat(survey[c], layout)]
    repeated = _repeated(texts, layout, survey, rows) if texts else set()
    unread.content = [c for c in unread.content if c not in repeated]
    unread.others += [c for c in texts if c in repeated]
    return unread


def _may_repeat(column: Column, layout: Format) -> bool:
    """Return whether its text may merely repeat what is read of the row.

    Beside a plain text, short texts and lists may be labels of it.
    """
    if column.marks or column.numbers:
        return False
    return layout.name != "text" or not (column.short or column.nested)


def _repeated(
    names: Sequence[str], layout: Format, survey: Survey, rows: Iterable[tuple[Record, Row]]
) -> set[str]:
    """Return the columns of which nearly every value repeats text that was read of its row."""
    left = dict.fromkeys(names, 0)
    others: dict[str, Counter[str]] = {name: Counter() for name in names}
    most = {name: int(_MOST_OTHER * survey[name].filled) for name in names}
    for record, row in rows:
        if not left:
            break
        read = [squeezed(text) for text in _texts_of_row(row)]
        for name in [c for c in left if not is_missing(record.get(c))]:
            texts = [squeezed(text) for text in texts_in(record[name])]
            if _all_read(texts, read, whole=survey[name].repeats):
                continue
            around = _around(texts, record, layout)
            if around is None:
                left[name] += 1
            else:
                others[name][around] += 1
            if left[name] > most[name]:
                del left[name]
    once = {name: sum(n for n in counts.values() if n == 1) for name, counts in others.items()}
    return {name for name, count in left.items() if count + once[name] <= most[name]}


def _all_read(texts: Sequence[str], read: Sequence[str], *, whole: bool) -> bool:
    """Return whether each text equals one of those read or, unless `whole`, is inside one."""
    if whole:
        return all(text in read for text in texts)
    return all(any(_stands_in(text, other) for other in read) for text in texts)


def _stands_in(text: str, other: str) -> bool:
    """Return whether a text occurs in another one, at borders of words."""
    if text not in other:
        return False
    return len(text) > 80 or re.search(_as_words(text), other) is not None


def _as_words(text: str) -> str:
    before = r"(?<!\w)" if text[:1].isalnum() else ""
    after = r"(?!\w)" if text[-1:].isalnum() else ""
    return f"{before}{re.escape(text)}{after}"


def _around(texts: Sequence[str], record: Record, layout: Format) -> str | None:
    """Return the text around the row's texts in one that contains them all, such as a template."""
    read = layout.reads(record) or ()
    parts = {squeezed(text) for c in read if c in record for text in texts_in(record[c])} - {""}
    if len(texts) != 1 or not parts:
        return None
    text = texts[0]
    for part in sorted(parts, key=len, reverse=True):
        text, count = re.subn(_as_words(part), "\0", text)
        if not count:
            return None
    return text


def texts_in(value: Any) -> Iterator[str]:
    """Yield the texts in a cell, in its lists and objects too, without roles of messages."""
    if isinstance(value, str):
        try:
            inner = json.loads(value) if value.lstrip()[:1] in ("[", "{") else None
        except (ValueError, RecursionError):
            inner = None
        if isinstance(inner, (list, dict)):
            value = inner
        else:
            yield value
    if isinstance(value, dict):
        value = [inner for key, inner in value.items() if key not in _SPEAKERS]
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from texts_in(inner)


def _texts_of_row(row: Row) -> Iterator[str]:
    yield from texts_in([row.messages or [], row.rejected or [], row.tools or []])
    if row.text:
        yield row.text
