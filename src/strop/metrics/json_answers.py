"""Answers in JSON: whether they can be read, and how many of their fields are right."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any


def parsed_answer(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not JSON as a whole, or nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refused)
    except RecursionError as e:
        raise ValueError("nested too deeply") from e


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def json_valid(text: str) -> float:
    """Return 1 if a text is JSON as a whole, else 0."""
    try:
        parsed_answer(text)
    except ValueError:
        return 0.0
    return 1.0


def json_fields(answer: str, reference: str) -> float:
    """Return the F1 of an answer's fields: 2 x equal ones / fields of both; 0 where it is no JSON.

    A field is a value with its path, such as `address.city` and `Paris`; places in a list do not
    count, numbers are equal by value.
    """
    try:
        bags = [Counter(_fields(parsed_answer(text), ())) for text in (answer, reference)]
    except ValueError:
        return 0.0
    total = bags[0].total() + bags[1].total()
    return 2 * (bags[0] & bags[1]).total() / total if total else 1.0


def _fields(value: Any, path: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _fields(inner, (*path, key))
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _fields(inner, (*path, "[]"))
    elif isinstance(value, bool) or value is None or isinstance(value, (dict, list)):
        yield (*path, "", json.dumps(value))
    else:
        yield (*path, type(value) is str, value)
