"""Forms of a conversation for templates that do not take the usual one.

Templates differ in their input: arguments of a call as an object or as JSON text, reasoning under
one of three names, contents as texts or as lists of parts. Each way changes the form and keeps the
content.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from strop.data.rows import Message

Tools = list[Any] | None
Way = Callable[[Sequence[Message], Tools], tuple[list[Message], Tools]]


class Arguments(dict[str, Any]):
    """Arguments of a tool call, with their JSON text in the data."""

    def __init__(self, values: dict[str, Any], text: str) -> None:
        super().__init__(values)
        self.text = text


def _calls_changed(
    messages: Sequence[Message], change: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[Message]:
    return [
        {**m, "tool_calls": [change(c) if isinstance(c, dict) else c for c in m["tool_calls"]]}
        if m.get("tool_calls")
        else m
        for m in messages
    ]


def _arguments_as_text(messages: Sequence[Message], tools: Tools) -> tuple[list[Message], Tools]:
    def change(call: dict[str, Any]) -> dict[str, Any]:
        if isinstance(call.get("function"), dict):
            return {**call, "function": change(call["function"])}
        arguments = call.get("arguments")
        if not isinstance(arguments, dict):
            return call
        if isinstance(arguments, Arguments):
            return {**call, "arguments": arguments.text}
        return {**call, "arguments": json.dumps(arguments, ensure_ascii=False)}

    return _calls_changed(messages, change), tools


def _calls_as_functions(messages: Sequence[Message], tools: Tools) -> tuple[list[Message], Tools]:
    def change(call: dict[str, Any]) -> dict[str, Any]:
        function = call.get("function", call)
        return {"type": "function", **(call if "function" in call else {}), "function": function}

    return _calls_changed(messages, change), tools


def _tools_as_functions(messages: Sequence[Message], tools: Tools) -> tuple[list[Message], Tools]:
    bare = [isinstance(tool, dict) and "function" not in tool for tool in tools or ()]
    wrapped = [
        {"type": "function", "function": tool} if is_bare else tool
        for tool, is_bare in zip(tools or (), bare, strict=True)
    ]
    return list(messages), wrapped if any(bare) else tools


def _reasoning_as(name: str) -> Way:
    def way(messages: Sequence[Message], tools: Tools) -> tuple[list[Message], Tools]:
        renamed = [
            {name if key == "reasoning_content" else key: value for key, value in m.items()}
            for m in messages
        ]
        return renamed, tools

    return way


def _contents_as_parts(messages: Sequence[Message], tools: Tools) -> tuple[list[Message], Tools]:
    converted = [
        {**m, "content": [{"type": "text", "text": m["content"]}]}
        if isinstance(m.get("content"), str)
        else m
        for m in messages
    ]
    return converted, tools


def _role_as(before: str, after: str) -> Way:
    def way(messages: Sequence[Message], tools: Tools) -> tuple[list[Message], Tools]:
        return [{**m, "role": after} if m["role"] == before else m for m in messages], tools

    return way


def _no_empty_contents(messages: Sequence[Message], tools: Tools) -> tuple[list[Message], Tools]:
    converted = [
        {k: v for k, v in m.items() if k != "content"}
        if m.get("content") == "" and m.get("tool_calls")
        else m
        for m in messages
    ]
    return converted, tools


WAYS: dict[str, Way] = {
    "arguments as text": _arguments_as_text,
    "calls as functions": _calls_as_functions,
    "tools as functions": _tools_as_functions,
    "reasoning as thinking": _reasoning_as("thinking"),
    "reasoning as reasoning": _reasoning_as("reasoning"),
    "contents as parts": _contents_as_parts,
    "developer as system": _role_as("developer", "system"),
    "system as developer": _role_as("system", "developer"),
    "no empty contents": _no_empty_contents,
}
"""Ways to change the form of a conversation; one that does not apply returns an equal one."""


def formed(
    messages: Sequence[Message], tools: Tools, ways: Sequence[str]
) -> tuple[list[Message], Tools]:
    """Return messages and tools after applying the ways in order."""
    converted = list(messages)
    for way in ways:
        converted, tools = WAYS[way](converted, tools)
    return converted, tools
