"""Renders a conversation with a chat template and says exactly which characters the model writes.

What the model writes is, for each assistant message, everything after the generation prompt up to
and with the first special token behind the message: the text a model given that prompt has to
produce. It is found by the origin of each character (see `tracing`), never by searching in texts
that users wrote.
"""

import contextlib
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from strop.core.errors import DataError
from strop.data.rows import Message
from strop.data.sandbox import TracingEnvironment
from strop.data.tracing import TOOLS, Traced, UntraceableError, owned

NAMES = frozenset(("role", "name", "id", "type", "tool_call_id"))
"""Fields of a message that name things; a template may repeat them in other messages."""

REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which data sets keep a message's reasoning; templates read the first two."""

_FAILURES = (
    *(TypeError, ValueError, ArithmeticError, KeyError, IndexError, AttributeError),
    *(RecursionError, MemoryError),
)
"""What a template raises that meets something it was not written for."""

_PROBE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
_MARK = re.compile(r"[\w<|/]*$")
"""The beginning of a word or a mark such as `<think>`, of which only a part agrees."""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` up to `end`, written by the model as its answer in message `message`."""

    start: int
    end: int
    message: int
    body: int = -1
    """Where its end token begins; `end` if it has none."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text."""

    text: str
    spans: list[Span]
    """One for each assistant message, in order."""
    closed: bool
    """Whether the last answer ends with a special token; if not, the tokenizer's is to be added."""


@functools.cache
def _compiled(source: str) -> jinja2.Template:
    try:
        return TracingEnvironment().from_string(source)
    except jinja2.TemplateSyntaxError as e:
        raise DataError(f"the chat template is not valid Jinja: {e} (line {e.lineno})") from e


def _traced(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the messages with traced texts, each owned by the position of its message."""
    made = []
    for i, message in enumerate(messages):
        copy: dict[str, Any] = {}
        for key, value in message.items():
            if key == "tool_calls" and isinstance(value, list):
                copy[key] = [_traced_call(call, i) for call in value]
            elif value is not None:
                copy[key] = value if key in NAMES else owned(value, i)
        reasoning = next((copy[key] for key in REASONING if key in copy), None)
        if reasoning is not None:
            copy = {"thinking": reasoning, **copy, "reasoning_content": reasoning}
        made.append(copy)
    return made


def _traced_call(call: Any, owner: int) -> Any:
    if not isinstance(call, dict):
        return owned(call, owner)
    if isinstance(call.get("function"), dict):
        return {**call, "function": _traced_call(call["function"], owner)}
    return {k: owned(v, owner) if k == "arguments" else v for k, v in call.items()}


@contextlib.contextmanager
def refusals(title: str) -> Iterator[None]:
    """Say of whatever a template raises that it refuses the conversation or fails on it.

    Raises:
        DataError: something was raised.
    """
    try:
        yield
    except UntraceableError as e:
        raise DataError(
            f"{title} cannot be followed: {e}; give the tokenizer a template that writes each "
            "message's text as it is"
        ) from e
    except jinja2.TemplateError as e:
        raise DataError(f"{title} refuses the conversation: {e.message}") from e
    except _FAILURES as e:
        raise DataError(f"{title} fails on the conversation: {e}") from e


class Renderer:
    """Renders conversations for one tokenizer.

    Args:
        source: the chat template.
        specials: the special tokens, as texts.
        names: what the template sees beside the messages, such as `bos_token`.
        title: how errors call the template.
    """

    def __init__(
        self, source: str, specials: Sequence[str], names: dict[str, Any], title: str
    ) -> None:
        self.source = source
        self.template = _compiled(source)
        self.names = names
        self.title = title
        longest = sorted((s for s in specials if s), key=len, reverse=True)
        self.special = re.compile("|".join(map(re.escape, longest)) or r"(?!)")
        self._leads: dict[str, str | None] = {}
        self.special_run = re.compile(f"(?:{self.special.pattern})+")
        self.text_of_marks = ""
        closing = self._probe()
        run = self.special_run.search(closing)
        self.closes = run is not None
        self.closing = (closing[: run.end()] if run else closing).strip()

    def text(
        self, messages: Sequence[Message], *, tools: Any = None, prompt: bool = False
    ) -> Traced:
        """Return the conversation as a traced text; `prompt` adds the generation prompt.

        Raises:
            DataError: the template refuses the conversation, or fails on it.
        """
        self.template.environment.steps = 0  # type: ignore[attr-defined]
        with refusals(self.title):
            made = self.template.render(
                messages=_traced(messages),
                tools=owned(tools, TOOLS) if tools else None,
                documents=None,
                add_generation_prompt=prompt,
                **self.names,
            )
        assert isinstance(made, Traced)
        return made

    def render(self, messages: Sequence[Message], *, tools: Any = None) -> Rendered:
        """Return the conversation's text and the spans the model writes.

        Raises:
            DataError: the template refuses the conversation, or leaves an answer out.
        """
        text = self.text(messages, tools=tools)
        spans: list[Span] = []
        closed = False
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                span, closed = self._span(text, messages, i, tools)
                spans.append(span)
        return Rendered(str.__str__(text), spans, closed)

    def _span(
        self, text: Traced, messages: Sequence[Message], i: int, tools: Any
    ) -> tuple[Span, bool]:
        before, first, last, after = _extent(text, i)
        if first < 0:
            silent = messages[i].get("tool_calls") and not messages[i].get("content")
            what = "tool calls, which are the answer" if silent else "the answer"
            raise DataError(f"{self.title} leaves out {what} in message {i + 1}")
        start = self._start(text, messages, i, tools, (before, first))
        behind = str.__getitem__(text, slice(last, after))
        body, end, closed = self._end(behind)
        return Span(start, last + end, i, last + body), closed

    def _end(self, behind: str) -> tuple[int, int, bool]:
        """Say how much of the template's text behind an answer belongs to it.

        Returns:
            Where its end token begins and ends, and whether it is a special token.
        """
        if self.closes and (run := self.special_run.search(behind)):
            at = run.group().find(self.closing)
            if at >= 0:
                return run.start(), run.start() + at + len(self.closing), True
            first = self.special.match(behind, run.start())
            assert first is not None
            return first.start(), first.end(), True
        at = behind.find(self.closing) if self.closing else -1
        if at >= 0:  # the tokenizer does not know the template's end token
            return at, at + len(self.closing), self.closes
        return 0, 0, False

    def _start(
        self,
        text: Traced,
        messages: Sequence[Message],
        i: int,
        tools: Any,
        around: tuple[int, int],
    ) -> int:
        """Return where the generation prompt of message `i` ends, at most its first character."""
        before, first = around
        between = str.__getitem__(text, slice(before, first))
        key = messages[i - 1]["role"] if i else ""
        lead = self._leads.get(key)
        if lead is None or not between.startswith(lead):
            lead = self._lead(messages[:i], tools)
            self._leads[key] = lead
        if lead is None:
            return first
        rest = str.__getitem__(text, slice(before, before + len(lead)))
        if rest == lead:
            return before + len(lead)
        shared = _MARK.sub("", rest[: _shared(rest, lead)])
        return min(before + len(shared), first)

    def _lead(self, earlier: Sequence[Message], tools: Any) -> str | None:
        """Return what the template writes between the earlier messages' texts and an answer."""
        if not earlier:
            return None
        try:
            text = self.text(earlier, tools=tools, prompt=True)
        except DataError:  # some templates refuse what cannot end a conversation
            return None
        written = text.runs[-1][0] if text.runs and text.runs[-1][1] == -1 else 0
        return str.__getitem__(text, slice(len(text) - written, len(text)))

    def _probe(self) -> str:
        """Return what the template writes behind the last answer of a conversation."""
        try:
            text = self.text(_PROBE)
        except DataError:  # a template for one fixed purpose; each row will say what it needs
            return ""
        self.text_of_marks = str.__str__(text)
        _, first, last, after = _extent(text, 1)
        return str.__getitem__(text, slice(last, after)) if first >= 0 else ""


def _shared(a: str, b: str) -> int:
    """Return how many characters two texts have in common at their beginning."""
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _extent(text: Traced, owner: int) -> tuple[int, int, int, int]:
    """Find the stretch of `text` that belongs to `owner` with no other owner's text within.

    Returns:
        The end of the text of another owner before it, its first character, the end of its last,
        and the first character of another owner behind it. The first is -1 if there is none.
    """
    before, first, last, at = 0, -1, 0, 0
    for length, who in text.runs:
        if who == owner:
            first = at if first < 0 else first
            last = at + length
        elif who != -1:
            if first >= 0:
                return before, first, last, at
            before = at + length
        at += length
    return before, first, last, len(text)
