"""A chat up to where an answer begins, and by what two renderings of it differ."""

import datetime
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_DATE = re.compile(r"\d{1,2} [A-Z][a-z]{2,8} \d{4}|[A-Z][a-z]{2,8} \d{1,2}, \d{4}|\d{4}-\d\d-\d\d")
_DATE_FORMATS = ("%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%Y-%m-%d")
AROUND = 24
"""Characters that are shown on each side of where a difference begins."""
CALL_ID = "abcdefgh1"
"""Id of a call that has none: Mistral's templates take nine letters and digits, nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A chat up to where an answer begins, as training renders it."""

    what: str
    """Description, such as `a chat with tools`."""
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    text: str
    ids: list[int]
    of_run: bool
    """True for chats of the rows to compare on: the run was trained on their kind."""
    with_plain_tools: str = ""
    """The same text with `plain_tools`; empty where they are the same."""

    @property
    def fractions(self) -> set[float]:
        """The numbers with a point or an exponent in its tools and calls."""
        calls = [call for m in self.messages for call in m.get("tool_calls") or []]
        arguments = [call.get("function", call).get("arguments") for call in calls]
        return set(_fractions([self.tools, *map(_parsed, arguments)]))


def with_text_arguments(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages with the arguments of calls as JSON text, as OpenAI's interface has them."""
    return [
        {**m, "tool_calls": [_text_call(call) for call in m["tool_calls"]]}
        if m.get("tool_calls")
        else m
        for m in messages
    ]


def plain_tools(tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tools as llama.cpp's server rebuilds them: of name, description and parameters."""
    functions = [tool.get("function", tool) for tool in tools]
    return [
        {
            "type": "function",
            "function": {
                "name": function.get("name"),
                "description": function.get("description") or "",
                "parameters": function.get("parameters") or {},
            },
        }
        for function in functions
    ]


def other_number(prompt: Prompt, rendered: str) -> tuple[str, str] | None:
    """Return the first number of tools or calls that `rendered` writes otherwise, right one first.

    None where anything else differs.
    """
    pairs = _others(_NUMBER, prompt.text, rendered)
    known = prompt.fractions
    return pairs[0] if pairs and all(float(right) in known for right, _ in pairs) else None


def other_date(prompt: Prompt, rendered: str) -> tuple[str, str] | None:
    """Return the first date for which `rendered` has today's; None where anything else differs."""
    now = datetime.datetime.now(datetime.UTC).astimezone()
    today = {now.strftime(form) for form in _DATE_FORMATS}
    today |= {text.removeprefix("0") for text in today}
    pairs = _others(_DATE, prompt.text, rendered)
    return pairs[0] if pairs and all(date in today for _, date in pairs) else None


def excerpt(right: str, rendered: str) -> str:
    """Return both texts around the first difference."""
    pairs = enumerate(zip(right, rendered, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(right), len(rendered)))
    start = max(0, at - AROUND)
    return f"{rendered[start : at + AROUND]!r} instead of {right[start : at + AROUND]!r}"


def _others(pattern: re.Pattern[str], right: str, rendered: str) -> list[tuple[str, str]]:
    """Return the matches that differ; none where the texts between matches differ too."""
    if pattern.split(right) != pattern.split(rendered):
        return []
    pairs = zip(pattern.findall(right), pattern.findall(rendered), strict=True)
    return [(a, b) for a, b in pairs if a != b]


def _text_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    named = {"name": function.get("name"), "arguments": text}
    return {"id": call.get("id") or CALL_ID, "type": "function", "function": named}


def _parsed(arguments: Any) -> Any:
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return None


def _fractions(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _fractions(part)
