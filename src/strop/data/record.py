"""One record of a source, before it is a row."""

from typing import Any

from strop.data.rows import Fault

Record = dict[str, Any]
Found = tuple[int, Record | Fault]
"""A line number, and the record there or why there is none."""


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
    return names.get(type(value), f"a {type(value).__name__}")


def without_nulls(record: Record) -> Record:
    """Return a record of a table without the nulls inside its columns.

    Arrow gives every object of a column the keys of all others, with null where they had none: of
    two tool calls with different arguments, each would call with those of both.
    """
    return {name: _without_nulls(value) for name, value in record.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
