"""Records: dictionaries read from a source, before they become rows."""

import ast
import io
import itertools
import json
import math
import re
import tokenize
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from strop.data.rows import Fault

Record = dict[str, Any]
NumberedRecord = tuple[int, Record | Fault]
"""A line number, and its record or fault."""
Shapes = Counter[tuple[str, ...]]
"""Number of records with each tuple of columns."""


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_WRITTEN_ESCAPES = frozenset("\\'\"nrtxuU")
"""Escapes that Python writes in texts; it reads more, such as the `\\a` of `\\alpha`."""


class WrittenFloat(float):
    """Number with its text in the file: as answers, `0.10` and `0.1` differ."""

    text: str

    def __new__(cls, text: str) -> "WrittenFloat":
        """Return the number that `text` spells."""
        number = super().__new__(cls, text)
        number.text = text
        return number


@dataclass(frozen=True, slots=True)
class UnreadableCell:
    """Cell of a table that Python cannot hold; it does no harm in a column that is not read."""

    reason: str
    """Such as `date value out of range`."""


def as_record(item: Any, number: int) -> Record | Fault:
    """Return the item if it is a record, else a fault."""
    if isinstance(item, dict):
        return item
    return Fault(number, f"is {type_in_words(item)}, not an object with columns", "bad_type")


def type_in_words(value: Any) -> str:
    """Return the type of a value in words, as in `a text`."""
    names: dict[type, str] = {
        str: "a text",
        int: "a number",
        float: "a number",
        bool: "a truth value",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    if isinstance(value, UnreadableCell):
        return f"a value that cannot be read ({value.reason})"
    if isinstance(value, float) and math.isnan(value):
        return "NaN, which stands for nothing"
    known = next((name for kind, name in names.items() if type(value) is kind), None)
    return known or ("a number" if isinstance(value, float) else f"a {type(value).__name__}")


def spelled(value: Any) -> str | None:
    """Return the text of a number or truth value, as written in the file if known; else None.

    Truth values are spelled as in JSON, other numbers as in Python. NaN, which tables have for
    missing cells, gives None.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, WrittenFloat):
        return None if math.isnan(value) else value.text
    if isinstance(value, float):
        return None if math.isnan(value) else repr(value)
    return str(value) if isinstance(value, int) else None


class RepeatedKeyError(ValueError):
    """Raised for an object with a repeated key, of which JSON would keep the last."""

    def __init__(self, key: Any) -> None:
        super().__init__(f"the key {key!r} stands twice in one object")


def object_of(pairs: list[tuple[str, Any]]) -> Record:
    """Return the object that JSON writes as these pairs.

    Raises:
        RepeatedKeyError: a key occurs twice.
    """
    record = dict(pairs)
    if len(record) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise RepeatedKeyError(next(key for key in counts if counts[key] > 1))
    return record


_CELL_DECODER = json.JSONDecoder(object_pairs_hook=object_of)


def parsed(text: str) -> Any:
    """Return the value of a cell that holds JSON or a Python literal.

    Raises:
        RepeatedKeyError: an object in it has a key twice.
        ValueError: it is neither, or a list of texts without commas, as NumPy writes them.
    """
    try:
        return _CELL_DECODER.decode(text)
    except RepeatedKeyError:
        raise
    except (ValueError, RecursionError) as e:
        if {match[1] for match in _ESCAPE.finditer(text)} - _WRITTEN_ESCAPES:
            raise ValueError(str(e)) from e
        try:
            value = ast.literal_eval(text)
            _refuse_repeated_keys(text)
            tokens = [t.type for t in tokenize.generate_tokens(io.StringIO(text).readline)]
        except RepeatedKeyError:
            raise
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as other:
            raise ValueError(str(e)) from other
        tokens = [kind for kind in tokens if kind not in (tokenize.NL, tokenize.NEWLINE)]
        if (tokenize.STRING, tokenize.STRING) in itertools.pairwise(tokens):
            raise ValueError("texts stand side by side without a comma") from e
        return value


def _refuse_repeated_keys(literal: str) -> None:
    for node in ast.walk(ast.parse(literal.strip(), mode="eval")):
        if isinstance(node, ast.Dict):
            object_of([(ast.literal_eval(key), None) for key in node.keys if key is not None])


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty: null, NaN, an empty text, list or object."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, (str, list, dict)) and not value)


def without_nulls(record: Record, features: Any = None) -> Record:
    """Return a record of a table without the nulls inside its columns.

    Arrow gives every object in a column the keys of all others, with null where a key is absent:
    two tool calls with different arguments would each have the arguments of both. A column of
    JSON texts has no such nulls; those in it belong to the data and stay.

    Args:
        record: the columns by name.
        features: their types in `datasets`; None if all are Arrow types.
    """
    types = features if isinstance(features, dict) else {}
    return {name: _without_nulls(value, types.get(name)) for name, value in record.items()}


def _without_nulls(value: Any, feature: Any) -> Any:
    if type(feature).__name__ == "Json":
        return value
    if isinstance(value, dict):
        types = feature if isinstance(feature, dict) else {}
        return {k: _without_nulls(v, types.get(k)) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        inner = feature[0] if isinstance(feature, list) and feature else feature
        inner = getattr(inner, "feature", inner)
        return [_without_nulls(item, inner) for item in value]
    return value


def format_columns(columns: Collection[Any]) -> str:
    """Return the first dozen of the columns, sorted, as in `answer, question and 3 more`."""
    ordered = sorted(map(str, columns))
    more = f" and {len(ordered) - 12} more" if len(ordered) > 12 else ""
    return ", ".join(ordered[:12]) + more
