"""Rendering of a conversation with a chat template, and the characters in it that the model writes.

The model writes, for each assistant message, everything after the generation prompt up to and with
the first special token behind the message: the text that a model has to produce, given that prompt.
It is located by the origin of each character (see `tracing`), never by searching in texts that
users wrote.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from strop.core.errors import DataError
from strop.core.tokens import common_prefix
from strop.data.encoding.template import ChatTemplate, Form
from strop.data.encoding.tracing import NO_MESSAGE, Traced, message_of, parts_of
from strop.data.rows import Message

_PROBE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
_MARK = re.compile(r"[\w<|/]*$")
"""Beginning of a word or of a mark such as `<think>` that two texts share only in part."""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` up to `end`, written by the model as its answer in message `message`."""

    start: int
    end: int
    message: int
    body: int = -1
    """Start of its end token; `end` if it has none."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text."""

    text: str
    spans: list[Span]
    """One for each assistant message, in order."""
    closed: bool
    """True if the last answer ends with a special token; if not, the tokenizer's is to be added."""
    form: Form
    """The form of the conversation that was rendered."""
    silent: dict[int, str]
    """Answers of which the template writes nothing: position of the message, and a sentence."""


class Renderer:
    """Renders conversations for one tokenizer.

    Args:
        source: the chat template.
        specials: the special tokens, as texts.
        variables: what the template reads beside messages and tools, such as `bos_token`.
        title: the name of the template in errors.
        day: the day that it writes as today's; None for today.
    """

    def __init__(
        self,
        source: str,
        specials: Sequence[str],
        variables: dict[str, Any],
        title: str,
        day: date | None = None,
    ) -> None:
        self.source = source
        self.title = title
        self._template = ChatTemplate(source, variables, title, day)
        longest = sorted((s for s in specials if s), key=len, reverse=True)
        self.special = re.compile("|".join(map(re.escape, longest)) or r"(?!)")
        self._leads: dict[str, str | None] = {}
        self.special_run = re.compile(f"(?:{self.special.pattern})+")
        self.text_of_marks = ""
        closing = self._probe()
        run = self.special_run.search(closing)
        self.closes = run is not None
        self.closing = (closing[: run.end()] if run else closing).strip()

    def form(self, messages: Sequence[Message], tools: Any) -> Form:
        """Return the conversation in the form of which the template writes most; see `ChatTemplate`."""
        return self._template.form(messages, tools)

    def text(
        self, messages: Sequence[Message], *, tools: Any = None, prompt: bool = False
    ) -> Traced:
        """Return the conversation as a traced text; `prompt` adds the generation prompt.

        Raises:
            DataError: the template refuses the conversation, or fails on it.
        """
        return self._template.render(messages, tools, prompt=prompt)[0]

    def plain(self, messages: Sequence[Message], tools: Any) -> str:
        """Return the conversation as the text that transformers renders.

        Raises:
            DataError: the template refuses the conversation, or fails on it.
        """
        return self._template.plain(messages, tools)

    def prompt(self, messages: Sequence[Message], last: int, tools: Any) -> str:
        """Return the text that a model is given to write message `last`, or the one behind the end.

        Raises:
            DataError: the template refuses the conversation, or fails on it.
        """
        whole = self.form(messages, tools)
        return str.__str__(self.text(whole.messages[:last], tools=whole.tools, prompt=True))

    def render(self, messages: Sequence[Message], *, tools: Any = None) -> Rendered:
        """Return the conversation's text and the spans that the model writes.

        Raises:
            DataError: the template refuses the conversation.
        """
        form = self.form(messages, tools)
        spans: list[Span] = []
        silent: dict[int, str] = {}
        closed = False
        extents = _Extents(form.text)
        for i, message in enumerate(form.messages):
            if message["role"] != "assistant":
                continue
            names = form.parts.calls_in(i) if message.get("tool_calls") else 0
            extent = extents.of(i, names)
            if extent[1] < 0:
                calls_only = message.get("tool_calls") and not messages[i].get("content")
                what = "tool calls, which are the answer" if calls_only else "the answer"
                silent[i] = f"{self.title} leaves out {what} in message {i + 1}"
            else:
                span, closed = self._span(form, i, extent)
                spans.append(span)
        return Rendered(str.__str__(form.text), spans, closed, form, silent)

    def _span(self, form: Form, i: int, extent: tuple[int, int, int, int]) -> tuple[Span, bool]:
        before, first, last, after = extent
        start = self._start(form, i, (before, first))
        behind = str.__getitem__(form.text, slice(last, after))
        calls = bool(form.messages[i].get("tool_calls"))
        final = i == len(form.messages) - 1
        body, end, closed = self._end(behind, calls=calls, final=final)
        return Span(start, last + end, i, last + body), closed

    def _end(self, behind: str, *, calls: bool, final: bool) -> tuple[int, int, bool]:
        """Locate the end token of an answer in the template's text behind it.

        Args:
            behind: what the template writes between the answer and the next message's text.
            calls: whether the answer ends with tool calls, behind which a template writes more.
            final: whether it is the last message.

        Returns:
            Start and end of its end token, and whether it is a special token.
        """
        if calls and self.closes and (at := behind.find(self.closing)) >= 0:
            return at, at + len(self.closing), True
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
        if calls and (special := self.special.search(behind)):
            # Turns have no end token; the next one begins with a special token.
            return special.start(), special.start(), False
        whole = len(behind.rstrip()) if calls and final else 0
        return whole, whole, False

    def _start(self, form: Form, i: int, around: tuple[int, int]) -> int:
        """Return where the generation prompt of message `i` ends, at most its first character."""
        before, first = around
        text, messages = form.text, form.messages
        between = str.__getitem__(text, slice(before, first))
        key = messages[i - 1]["role"] if i else ""
        lead = self._leads.get(key)
        if lead is None or not between.startswith(lead):
            lead = self._lead(messages[:i], form.tools)
            self._leads[key] = lead
        if lead is None:
            return first
        rest = str.__getitem__(text, slice(before, before + len(lead)))
        if rest == lead:
            return before + len(lead)
        shared = _MARK.sub("", rest[: common_prefix(rest, lead)])
        return min(before + len(shared), first)

    def _lead(self, earlier: Sequence[Message], tools: Any) -> str | None:
        """Return the template's text between the earlier messages' texts and an answer."""
        if not earlier:
            return None
        try:
            text = self.text(earlier, tools=tools, prompt=True)
        except DataError:  # some templates refuse what cannot end a conversation
            return None
        free = itertools.takewhile(lambda r: message_of(r[1]) == NO_MESSAGE, reversed(text.runs))
        written = sum(length for length, _ in free)
        return str.__getitem__(text, slice(len(text) - written, len(text)))

    def _probe(self) -> str:
        """Return the template's text behind the last answer of a conversation."""
        try:
            text = self.text(_PROBE)
        except DataError:  # a template for one fixed purpose; each row raises on its own
            return ""
        self.text_of_marks = str.__str__(text)
        _, first, last, after = _Extents(text).of(1, 0)
        return str.__getitem__(text, slice(last, after)) if first >= 0 else ""


class _Extents:
    """Stretches of a conversation's text that belong to its messages, in one pass over the text.

    Args:
        text: the conversation.
    """

    def __init__(self, text: Traced) -> None:
        self._runs = text.runs
        self._length = len(text)
        self._places: list[tuple[int, int]] = []
        """Start of each run, and the end of the last message's text before it."""
        self._first: dict[int, int] = {}
        """First run of each message."""
        self._named: dict[int, int] = {}
        """First run of each name that belongs to no message, by its bit."""
        at = before = 0
        for number, (length, owner) in enumerate(text.runs):
            self._places.append((at, before))
            at += length
            if (who := message_of(owner)) != NO_MESSAGE:
                self._first.setdefault(who, number)
                before = at
            else:
                for bit in _bits(parts_of(owner)):
                    self._named.setdefault(bit, number)

    def of(self, message: int, names: int) -> tuple[int, int, int, int]:
        """Locate the stretch that belongs to a message, without another message's text in it.

        Args:
            message: the position of the message.
            names: the names of its calls as bits, of which the first occurrence counts: a template
                may repeat them beside the results.

        Returns:
            End of the text of another message before it, its first character, the end of its last
            one, and the first character of another message behind it. Without such a stretch its
            first character is -1.
        """
        runs = [self._named[bit] for bit in _bits(names) if bit in self._named]
        runs += [self._first[message]] if message in self._first else []
        if not runs:
            return 0, -1, 0, self._length
        begin = min(runs)
        first, before = self._places[begin]
        last = first
        for number in range(begin, len(self._runs)):
            length, owner = self._runs[number]
            at, who = self._places[number][0], message_of(owner)
            if who == message or (who == NO_MESSAGE and parts_of(owner) & names):
                names &= ~parts_of(owner)
                last = at + length
            elif who != NO_MESSAGE:
                return before, first, last, at
        return before, first, last, self._length


def _bits(number: int) -> Iterator[int]:
    """Yield the bits that are set, lowest first."""
    while number:
        lowest = number & -number
        yield lowest
        number ^= lowest
