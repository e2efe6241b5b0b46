"""Parts of a row, each traced through the template, and those that it leaves out.

A part is the content of one place in a row: the words of an answer, its reasoning, a call, one
argument, a tool, a system message. A template that writes no character of a part, or not all of its
words, leaves it out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from strop.data.encoding.tracing import (
    NO_MESSAGE,
    TOOLS,
    Traced,
    owner_of,
    parts_of,
    trace,
    trace_dict,
)
from strop.data.rows import Message
from strop.data.words import parts_of_text

REASONING = ("reasoning_content", "thinking", "reasoning")
"""Fields of a message from which templates read its reasoning."""

_NAMES = frozenset(("role", "id", "type", "tool_call_id"))
"""Fields without content: they identify something."""

REASONING_MARKS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought", "<channel|>"),
)
"""Opening and closing marks of reasoning inside a content."""

_KIND_OF_ROLE = {"user": "question", "tool": "tool_result", "assistant": "answer"}


@dataclass(frozen=True, slots=True)
class Part:
    """Content of one place in a row."""

    kind: str
    """`answer`, `reasoning`, `earlier_reasoning`, `call`, `argument`, `tool_result`, `question`,
    `system`, `tools` or `name`."""
    message: int
    """The position of its message, or `TOOLS`."""
    text: str = ""
    """Text of which all but white space is to be written; if empty, one character of the part is enough."""


@dataclass(slots=True)
class Parts:
    """Parts of one row, in the order of their bits."""

    parts: list[Part] = field(default_factory=list)

    def add(self, kind: str, message: int, text: str = "", *, named: bool = False) -> int:
        """Return the owner of a new part.

        Args:
            kind: see `Part`.
            message: the position of its message.
            text: see `Part`.
            named: whether it is a name, which templates repeat beside other messages.
        """
        self.parts.append(Part(kind, message, text))
        return owner_of(NO_MESSAGE if named else message, len(self.parts) - 1)

    def calls_in(self, message: int) -> int:
        """Return the names of a message's calls as bits."""
        calls = (i for i, p in enumerate(self.parts) if p.kind == "call" and p.message == message)
        return sum(1 << i for i in calls)

    def unwritten(self, text: Traced) -> list[Part]:
        """Return the parts of which `text` has nothing, or fewer characters than they have."""
        written = [0] * len(self.parts)
        for length, owner in text.runs:
            bits = parts_of(owner)
            while bits:
                written[(bits & -bits).bit_length() - 1] += length
                bits &= bits - 1
        return [
            part
            for place, (part, length) in enumerate(zip(self.parts, written, strict=True))
            if not length or (length < len(part.text) and self._cut(place, text))
        ]

    def _cut(self, place: int, text: Traced) -> bool:
        """Return whether `text` lacks some of a part's characters, white space aside."""
        at = size = 0
        for length, owner in text.runs:
            if parts_of(owner) >> place & 1:
                size += _size(str.__getitem__(text, slice(at, at + length)))
            at += length
        return size < _size(self.parts[place].text)


def traced(messages: Sequence[Message], tools: Any) -> tuple[list[dict[str, Any]], Any, Parts]:
    """Return messages and tools with traced texts, and the parts to which they are traced."""
    parts = Parts()
    last = max((i for i, m in enumerate(messages) if m["role"] == "user"), default=-1)
    copies = [_traced_message(m, i, last, parts) for i, m in enumerate(messages)]
    if isinstance(tools, (list, tuple)):
        tools = [trace(tool, parts.add("tools", TOOLS)) for tool in tools]
    return copies, tools, parts


def _traced_message(message: Message, i: int, last: int, parts: Parts) -> dict[str, Any]:
    reasoning = "reasoning" if i > last else "earlier_reasoning"
    copy: dict[str, Any] = {}
    for key, value in message.items():
        if value is None:  # transformers takes them out as well
            continue
        if key in _NAMES:
            copy[key] = value
        elif key == "name":
            copy[key] = trace(value, parts.add("name", i, named=True)) if value else value
        elif key == "tool_calls" and isinstance(value, (list, tuple)):
            copy[key] = [_traced_call(call, i, parts) for call in value]
        elif key in REASONING and isinstance(value, str):
            copy[key] = _traced_text(value, i, reasoning, parts)
        elif key == "content":
            kind = _KIND_OF_ROLE.get(message["role"], "system")
            copy[key] = _traced_content(value, i, (kind, reasoning), parts)
        else:
            copy[key] = trace(value, owner_of(i))
    return copy


def _traced_text(text: str, i: int, kind: str, parts: Parts) -> Traced:
    return Traced.owned(text, parts.add(kind, i, text) if text.strip() else owner_of(i))


def _traced_content(content: Any, i: int, kinds: tuple[str, str], parts: Parts) -> Any:
    """Return the content traced, reasoning inside an answer as a separate part."""
    kind, reasoning = kinds
    if isinstance(content, list):
        return [
            {
                k: _traced_content(v, i, kinds, parts) if k == "text" else trace(v, owner_of(i))
                for k, v in part.items()
            }
            if isinstance(part, dict) and part.get("type") == "text"
            else trace(part, owner_of(i))
            for part in content
        ]
    if not isinstance(content, str):
        return trace(content, owner_of(i))
    marks = _thought(content) if kind == "answer" else None
    if marks is None:
        return _traced_text(content, i, kind, parts)
    start, opened, closing, closed = marks
    words, thought = content[:start] + content[closed:], content[opened:closing]
    answer = parts.add(kind, i, words) if words.strip() else owner_of(i)
    inner = parts.add(reasoning, i, thought) if thought.strip() else owner_of(i)
    runs = (
        (start, answer),
        (opened - start, owner_of(i)),
        (len(thought), inner),
        (closed - closing, owner_of(i)),
        (len(content) - closed, answer),
    )
    return Traced(content, tuple(run for run in runs if run[0]))


def _thought(content: str) -> tuple[int, int, int, int] | None:
    """Return the starts of the opening mark, of the reasoning, of its closing mark and of the rest."""
    for mark, close in REASONING_MARKS:
        closing = content.rfind(close)
        if closing >= 0:
            start = content.find(mark, 0, closing)
            opened = start + len(mark) if start >= 0 else 0
            return max(start, 0), opened, closing, closing + len(close)
    return None


def _traced_call(call: Any, i: int, parts: Parts) -> Any:
    if not isinstance(call, dict):
        return trace(call, parts.add("call", i))
    if isinstance(call.get("function"), dict):
        return {**call, "function": _traced_call(call["function"], i, parts)}
    copy = {}
    for key, value in call.items():
        if key == "name":
            copy[key] = trace(value, parts.add("call", i, named=True))
        elif key == "arguments" and isinstance(value, dict):
            copy[key] = _traced_arguments(value, i, parts)
        elif key == "arguments":
            copy[key] = trace(value, parts.add("argument", i))
        else:
            copy[key] = value
    return copy


def _traced_arguments(arguments: dict[str, Any], i: int, parts: Parts) -> dict[str, Any]:
    items = {}
    for key, value in arguments.items():
        owner = parts.add("argument", i)
        items[trace(key, owner)] = trace(value, owner)
    return trace_dict(items, owner_of(i))


def _size(text: str) -> int:
    return sum(len("".join(part.split())) for part in parts_of_text(text))


def finding_kinds(unwritten: Iterable[Part], supervised: set[int]) -> tuple[str, ...]:
    """Return the kinds of findings about parts that a template leaves out.

    Args:
        unwritten: the parts.
        supervised: the positions of the supervised messages.
    """
    return tuple(sorted({_finding_kind(part, supervised) for part in unwritten}))


def _finding_kind(part: Part, supervised: set[int]) -> str:
    if part.kind in ("answer", "call", "argument") and part.message not in supervised:
        return "dropped_context"
    return f"dropped_{FINDINGS[part.kind]}"


FINDINGS = {
    "answer": "answer",
    "call": "calls",
    "argument": "calls",
    "reasoning": "reasoning",
    "earlier_reasoning": "earlier_reasoning",
    "tools": "tools",
    "system": "system",
    "tool_result": "tool_results",
    "question": "questions",
    "name": "names",
}
"""Kind of part -> kind of finding, behind `dropped_`."""

LEFT_OUT = {
    "dropped_answer": "words of the answer",
    "dropped_calls": "tool calls or their arguments",
    "dropped_reasoning": "the reasoning of the answer",
    "dropped_tools": "the tools that may be called",
    "dropped_system": "the system message",
    "dropped_tool_results": "results of tools",
    "dropped_questions": "what the user says",
    "dropped_context": "words or tool calls of an answer that is not learned",
    "dropped_earlier_reasoning": "the reasoning of earlier answers",
    "dropped_names": "the names of speakers or tools",
}
"""Kind of finding -> description of the part that a template leaves out."""
