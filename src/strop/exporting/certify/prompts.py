"""Chats that an export must render as training did: with tools, calls, reasoning, several turns."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from strop.core.errors import DataError
from strop.data.encoding.chat import chat_ids, chat_text
from strop.data.rows import Message, Row
from strop.exporting.certify.prompt import CALL_ID, Prompt, plain_tools, with_text_arguments

CHATS = 8
"""The most chats with tools that are taken from rows."""
_PARTS = ("role", "content", "tool_calls", "reasoning_content", "name", "tool_call_id")
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "set_heat",
            "description": "Sets a heater – größer, 漢字, 🙂.",
            "parameters": {
                "type": "object",
                "properties": {
                    "room": {"type": "string", "enum": ["attic", "küche"]},
                    "days": {"type": "array", "items": {"type": "integer"}, "maxItems": 7},
                    "plan": {"type": "object", "properties": {"eco": {"type": "boolean"}}},
                },
                "required": ["room"],
            },
        },
    }
]
TOOLS_WITH_FRACTIONS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "set_level",
            "description": "Sets a level.",
            "parameters": {
                "type": "object",
                "properties": {"level": {"type": "number", "default": 1.0, "maximum": 9.5}},
            },
        },
    }
]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "texts": {"room": "küche – 漢字 🙂 नमस्ते e\u0301"},
    "quotes and marks": {"room": "a \"b\" \\ \n\t<c> & 'd' {e}"},
    "whole numbers and truth values": {"count": 2, "less": -7, "on": True, "off": False},
    "null": {"room": None},
    "nested objects and lists": {"plan": {"eco": True, "days": [1, [2, 3], {}], "more": {"a": {}}}},
    "whole numbers with a point, as 3.0": {"level": 3.0},
    "numbers with fractions": {"level": 0.1, "less": -2.5, "large": 1234.5678},
    "very large and very small numbers": {"tiny": 1e-07, "large": 1e22, "id": 1234567890123},
}
"""Arguments of calls, by kind of value."""
_QUESTION = {"role": "user", "content": "Warm it up."}
_DONE = {"role": "assistant", "content": "It is warm."}
_AGAIN = {"role": "user", "content": "And now?"}
_SYSTEM = {"role": "system", "content": "Be brief. Größe: 3.0"}


def prompts(rows: Sequence[Row], tokenizer: Any) -> list[Prompt]:
    """Return the chats with more than texts in one turn that a tokenizer's template can write.

    Args:
        rows: to compare on.
        tokenizer: of the trained model.
    """
    if not tokenizer.chat_template:
        return []

    def prompt_of(
        what: str, messages: Sequence[Message], tools: Any = None, of_run: bool = False
    ) -> Prompt | None:
        return _rendered(tokenizer, what, messages, tools, of_run)

    candidates = [prompt_of(*chat, of_run=True) for chat in _of_rows(rows)]
    candidates += [
        prompt_of("a chat with a system message", [_SYSTEM, _QUESTION]),
        prompt_of("a chat of several turns", [_QUESTION, _DONE, _AGAIN]),
        prompt_of(
            "a chat with reasoning in an earlier answer",
            [_QUESTION, {**_DONE, "reasoning_content": "It is cold."}, _AGAIN],
        ),
        *_with_tools(prompt_of),
    ]
    return [prompt for prompt in candidates if prompt is not None]


def _with_tools(prompt_of: Callable[..., Prompt | None]) -> Iterable[Prompt | None]:
    plain = prompt_of("", [_QUESTION])
    with_tools = prompt_of("a chat with tools", [_QUESTION], TOOLS)
    if with_tools is None or plain is None or with_tools.text == plain.text:
        return  # the template does not write them
    yield with_tools
    yield prompt_of("a chat with tools and a system message", [_SYSTEM, _QUESTION], TOOLS)
    yield prompt_of("a chat with numbers in its tools", [_QUESTION], TOOLS_WITH_FRACTIONS)
    for what, arguments in ARGUMENTS.items():
        messages = [_QUESTION, _calling(arguments), _result("done"), _DONE, _AGAIN]
        yield prompt_of(f"a chat with {what} in a call", messages, TOOLS)
    calling = _calling(ARGUMENTS["texts"], content="I look.", reasoning_content="It is cold.")
    yield prompt_of(
        "a chat with the result of a call", [_QUESTION, calling, _result("21.0 °C")], TOOLS
    )


def _calling(arguments: dict[str, Any], **more: str) -> Message:
    function = {"name": "set_heat", "arguments": arguments}
    call = {"id": CALL_ID, "type": "function", "function": function}
    return {"role": "assistant", "content": "", "tool_calls": [call], **more}


def _result(content: str) -> Message:
    return {"role": "tool", "name": "set_heat", "tool_call_id": CALL_ID, "content": content}


def _of_rows(rows: Sequence[Row]) -> Iterable[tuple[str, list[Message], Any]]:
    """Yield the rows with tools, calls or reasoning, each up to its last answer."""
    count = 0
    for row in rows:
        messages = list(row.messages or [])
        while messages and messages[-1]["role"] == "assistant":
            messages.pop()
        calls = any(m.get("tool_calls") or m["role"] == "tool" for m in messages)
        if messages and count < CHATS and (row.tools or calls or len(messages) > 2):
            count += 1
            parts = [{k: m[k] for k in _PARTS if m.get(k) is not None} for m in messages]
            name = "a chat with tools" if row.tools or calls else "a chat of several turns"
            yield f"{name} of line {row.line}", parts, row.tools


def _rendered(
    tokenizer: Any, what: str, messages: Sequence[Message], tools: Any, of_run: bool
) -> Prompt | None:
    """Return a prompt, arguments as objects or else as text; None if the template takes neither."""
    for form in (list(messages), with_text_arguments(messages)):
        try:
            ids = chat_ids(tokenizer, form, tools)
            text = chat_text(tokenizer, form, tools)
        except DataError:  # a chat that the template does not take
            continue
        return Prompt(
            what=what,
            messages=form,
            tools=tools,
            text=text,
            ids=ids,
            of_run=of_run,
            with_plain_tools=_with_plain_tools(tokenizer, form, tools, text),
        )
    return None


def _with_plain_tools(tokenizer: Any, messages: Sequence[Message], tools: Any, text: str) -> str:
    if not tools:
        return ""
    other = chat_text(tokenizer, messages, plain_tools(tools))
    return "" if other == text else other
