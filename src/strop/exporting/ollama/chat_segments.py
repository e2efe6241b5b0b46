"""A chat template as the literal texts around its turns, found by rendering chats with it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from strop.core.errors import DataError, UnsupportedError
from strop.data.encoding.chat import chat_text
from strop.data.encoding.templates import template_of

Message = dict[str, str]
_SYSTEM = "Zq7system"
_TOOL = "Zq7tool"
_TURNS = ("Zq7user1", "Zq7answer1", "Zq7user2", "Zq7answer2", "Zq7user3")
_WORDS = ("Name a river.", "The Rhine flows there.", "And\n\na lake?", "1 < 2, so: yes.", "Why?")


@dataclass(frozen=True, slots=True)
class ChatSegments:
    """The texts that a chat template puts around a system message, questions and answers."""

    start: str
    """Text before the first question of a chat without a system message."""
    answer: str
    """Text between a question and its answer, where the chat goes on."""
    between: str
    """Text between an answer and the next question."""
    end: str
    """Text behind the last question: the model goes on from here."""
    system: tuple[str, str] | None
    """Texts before a system message and between it and the question; None: it has no place."""
    system_last: tuple[str, str] | None = None
    """The same before the last of several questions, where the system message is put there."""

    def render(self, messages: Sequence[Message]) -> str:
        """Return a chat whose last message is a question, as the model is to go on from."""
        system = [m["content"] for m in messages if m["role"] == "system"]
        turns = [m for m in messages if m["role"] != "system"]
        text = ""
        for i, turn in enumerate(turns):
            if turn["role"] == "user":
                last = i == len(turns) - 1
                text += self._before(system[0] if system else "", first=not i, last=last)
                text += turn["content"] + (self.end if last else self.answer)
            else:
                text += turn["content"]
        return text

    def _before(self, system: str, *, first: bool, last: bool) -> str:
        around = self.system if first else self.system_last
        if system and around and (first if self.system_last is None else last):
            return around[0] + system + around[1]
        return self.start if first else self.between

    def without(self, begin: str) -> "ChatSegments":
        """Return the same without a begin token at the start of a chat."""

        def cut(text: str) -> str:
            return text.removeprefix(begin)

        system = self.system and (cut(self.system[0]), self.system[1])
        return ChatSegments(
            cut(self.start), self.answer, self.between, self.end, system, self.system_last
        )


def chat_segments(tokenizer: Any) -> ChatSegments:
    """Return the texts around the turns of a tokenizer's chat template.

    The template is rendered with marked messages, taken apart at the marks, and put together
    again for other chats, which must come out as the template renders them.

    Raises:
        UnsupportedError: there is no template, or it does more than to put texts around turns.
    """
    if template_of(tokenizer) is None:
        raise UnsupportedError(
            "the model has no chat template, and Ollama needs one; export --to gguf instead"
        )
    plain = _Rendered(tokenizer, _TURNS, None)
    start, answer, between, _, _, end = plain.parts
    single = _Rendered(tokenizer, _TURNS[:1], None)
    segments = ChatSegments(start, answer, between, end, *_system(tokenizer))
    if single.parts != (start, end):
        raise _inexpressible("the first question of a chat", "".join(single.parts))
    for count in (1, 3, 5):
        for system in ("", "Be brief."):
            if system and segments.system is None:
                continue
            messages = _chat(_WORDS[:count], system or None)
            if segments.render(messages) != chat_text(tokenizer, messages):
                raise _inexpressible(
                    f"a chat of {count} turns{' with a system message' if system else ''}",
                    chat_text(tokenizer, messages),
                )
    return segments


def _system(tokenizer: Any) -> tuple[tuple[str, str] | None, tuple[str, str] | None]:
    """Return the texts around a system message in a chat of one question, and of several."""
    try:
        one = _Rendered(tokenizer, _TURNS[:1], _SYSTEM)
        three = _Rendered(tokenizer, _TURNS[:3], _SYSTEM)
    except UnsupportedError:  # many templates refuse, or drop, system messages
        return None, None
    around = (one.parts[0], one.parts[1])
    if three.marks[0] == _SYSTEM:
        return around, None
    where = three.marks.index(_SYSTEM)
    return around, (three.parts[where], three.parts[where + 1])


class _Rendered:
    """A marked chat, cut at its marks."""

    def __init__(self, tokenizer: Any, marks: Sequence[str], system: str | None) -> None:
        try:
            text = chat_text(tokenizer, _chat(marks, system))
        except DataError as e:
            raise _inexpressible("a chat", str(e)) from e
        every = [*([system] if system else []), *marks]
        pieces = re.split(f"({'|'.join(every)})", text)
        self.parts, self.marks = tuple(pieces[::2]), pieces[1::2]
        if sorted(self.marks) != sorted(every):
            raise _inexpressible("a chat, whose messages do not each come once,", text)


def _chat(turns: Sequence[str], system: str | None) -> list[Message]:
    roles = ("user", "assistant") * len(turns)
    before = [{"role": "system", "content": system}] if system else []
    return before + [{"role": r, "content": c} for r, c in zip(roles, turns, strict=False)]


def trims(tokenizer: Any) -> bool:
    """Return whether the template drops white space around a question."""
    return "\n padded \n" not in chat_text(tokenizer, _chat(("\n padded \n",), None))


def writes_tools(tokenizer: Any) -> bool:
    """Return whether the template writes the tools that a chat may call."""
    function = {
        "name": _TOOL,
        "description": "?",
        "parameters": {"type": "object", "properties": {}},
    }
    try:
        tools = [{"type": "function", "function": function}]
        text = chat_text(tokenizer, _chat(_WORDS[:1], None), tools, answer=False)
    except DataError:
        return False
    return _TOOL in text


def _inexpressible(what: str, text: str) -> UnsupportedError:
    return UnsupportedError(
        f"the chat template renders {what} in a way that Ollama's templates cannot be given: "
        f"{text[:200]!r}; export --to gguf, whose file carries the template itself"
    )
