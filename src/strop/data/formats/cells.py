"""Cells of a record: texts, lists and JSON in them, or a FaultyRecordError."""

from typing import Any

from strop.data.formats.record import (
    Record,
    RepeatedKeyError,
    is_missing,
    parsed,
    spelled,
    type_in_words,
)


class FaultyRecordError(ValueError):
    """Reason why a record cannot become a row, with the kind of its finding."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def text_in(record: Record, column: str, *, empty: bool = True) -> str:
    """Return the text in a column, a number's as written.

    Raises:
        FaultyRecordError: it holds no text, or an empty one where `empty` is false.
    """
    value = record[column]
    if not isinstance(value, str):
        value = spelled(value)
    if value is None:
        value = record[column]
        raise FaultyRecordError("bad_type", f"{column} is {type_in_words(value)}, not a text")
    if not empty and not value.strip():
        kind = "empty_text" if column == "text" else "empty_answers"
        raise FaultyRecordError(kind, f"{column} is empty")
    return value


def optional_text(record: Record, *columns: str) -> str:
    """Return the text of the first of the columns that holds one, or an empty text."""
    for column in columns:
        if not is_missing(record.get(column)):
            return text_in(record, column)
    return ""


def listed(value: Any, column: str) -> list[Any]:
    """Return the list in a column, which a table may hold as JSON text.

    Raises:
        FaultyRecordError: it holds no list, or an empty one.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parsed_in(value, column)
    if not isinstance(value, list):
        raise FaultyRecordError("bad_type", f"{column} is {type_in_words(value)}, not a list")
    if not value:
        raise FaultyRecordError("no_answer", f"{column} is an empty list")
    return value


def is_empty(value: Any) -> bool:
    """Return whether a value is null, or an empty text, list or object."""
    if isinstance(value, str):
        text = value.strip()
        return len(text) < 64 and "".join(text.split()) in ("", "[]", "{}", "null")
    return value is None or (isinstance(value, (list, dict)) and not value)


def parsed_in(text: str, what: str) -> Any:
    """Return the value of a JSON text; `what` names it in errors.

    Raises:
        FaultyRecordError: it is not valid JSON.
    """
    try:
        return parsed(text)
    except ValueError as e:
        if isinstance(e, RepeatedKeyError):
            raise FaultyRecordError("bad_json", f"{what} is not usable JSON: {e}") from e
        hint = "; it is written as Python, not as JSON" if text[:2] in ("[{", "{'") else ""
        raise FaultyRecordError("bad_json", f"{what} is not valid JSON: {e}{hint}") from e
