"""One record of a source, before it is a row."""

import ast
import io
import itertools
import json
import math
import re
import tokenize
from typing import Any

from strop.data.rows import Fault

Record = dict[str, Any]
Found = tuple[int, Record | Fault]
"""A line number, and the record there or why there is none."""


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_WRITTEN_ESCAPES = frozenset("\\'\"nrtxuU")
"""Behind a backslash, what Python writes for texts; it reads more, such as the `\\a` of `\\alpha`."""


class WrittenFloat(float):
    """A number that knows its text in the file: `0.10` is not `0.1` when it is an answer."""

    text: str

    def __new__(cls, text: str) -> "WrittenFloat":
        """Return the number that `text` spells."""
        made = super().__new__(cls, text)
        made.text = text
        return made


def as_record(item: Any, number: int) -> Record | Fault:
    """Return the item as a record, or why it is none."""
    if isinstance(item, dict):
        return item
    return Fault(number, f"is {spoken_type(item)}, not an object with columns", "bad_type")


def spoken_type(value: Any) -> str:
    """Return what kind of value this is, in words."""
    names: dict[type, str] = {
        str: "a text",
        int: "a number",
        float: "a number",
        bool: "a truth value",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    if isinstance(value, float) and math.isnan(value):
        return "NaN, which stands for nothing"
    known = next((name for kind, name in names.items() if type(value) is kind), None)
    return known or ("a number" if isinstance(value, float) else f"a {type(value).__name__}")


def spelled(value: Any) -> str | None:
    """Return a number or truth value as its text, as written where that is known; else None.

    `true` and `false` as in JSON, numbers as Python spells them; NaN, which tables have for what
    is missing, is no number.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, WrittenFloat):
        return None if math.isnan(value) else value.text
    if isinstance(value, float):
        return None if math.isnan(value) else repr(value)
    return str(value) if isinstance(value, int) else None


def parsed(text: str) -> Any:
    """Return the value that a cell of a table holds as JSON, or else as Python writes it.

    Raises:
        ValueError: it is neither, or a list of texts without commas, as NumPy writes them.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        if set(_ESCAPE.findall(text)) - _WRITTEN_ESCAPES:
            raise ValueError(str(e)) from e
        try:
            value = ast.literal_eval(text)
            tokens = [t.type for t in tokenize.generate_tokens(io.StringIO(text).readline)]
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as other:
            raise ValueError(str(e)) from other
        tokens = [kind for kind in tokens if kind not in (tokenize.NL, tokenize.NEWLINE)]
        if (tokenize.STRING, tokenize.STRING) in itertools.pairwise(tokens):
            raise ValueError("texts stand side by side without a comma") from e
        return value


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: null, NaN, an empty text, list or object."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, (str, list, dict)) and not value)


def without_nulls(record: Record, features: Any = None) -> Record:
    """Return a record of a table without the nulls inside its columns.

    Arrow gives every object of a column the keys of all others, with null where they had none: of
    two tool calls with different arguments, each would call with those of both. A column of JSON
    texts has no such nulls; those in it are the data's own and stay.

    Args:
        record: the columns by name.
        features: their types as `datasets` has them; None where all are Arrow's.
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
