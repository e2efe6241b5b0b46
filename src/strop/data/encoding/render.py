"""Renders a conversation with a chat template and says exactly which characters the model writes.

What the model writes is, for each assistant message, everything after the generation prompt up to
and with the first special token behind the message: the text a model given that prompt has to
produce. It is found by the origin of each character (see `tracing`), never by searching in texts
that users wrote.
"""

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from strop.core.errors import DataError
from strop.core.tokens import common_prefix
from strop.data.encoding.parts import Part, Parts, traced
from strop.data.encoding.sandbox import TracingEnvironment
from strop.data.encoding.tracing import NO_MESSAGE, Traced, UntraceableError, message_of, parts_of
from strop.data.formats.forms import WAYS, formed
from strop.data.rows import Message

_FAILURES = (
    *(TypeError, ValueError, ArithmeticError, KeyError, IndexError, AttributeError),
    *(RecursionError, MemoryError),
)
"""What a template raises that meets something it was not written for."""

_PROBE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
_PLAIN = {
    "strop.data.encoding.tracing.Traced": "str",
    "strop.data.encoding.tracing.OwnedDict": "dict",
}
_PLAIN |= {name.rpartition(".")[2]: plain for name, plain in _PLAIN.items()}
_LISTED = "{'type': 'text'"
"""How a template begins a list of parts that it writes as a whole."""
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
    form: "Form"
    """What was put to the template, and what it left out."""
    silent: dict[int, str]
    """The answers of which the template writes nothing, by message, and a sentence about each."""


@dataclass(frozen=True, slots=True)
class Form:
    """A conversation in the form that a template writes most of."""

    messages: list[Message]
    tools: Any
    text: Traced
    parts: Parts
    unwritten: list[Part]
    """The parts that the template leaves out."""
    ways: tuple[str, ...] = ()
    """How it differs from the usual form; see `forms.WAYS`."""

    def writes_more(self, other: "Form") -> bool:
        """Say whether it leaves out only some of what another form leaves out."""
        return {(p.kind, p.message) for p in self.unwritten} < {
            (p.kind, p.message) for p in other.unwritten
        }


@functools.cache
def _compiled(source: str) -> jinja2.Template:
    try:
        return TracingEnvironment().from_string(source)
    except jinja2.TemplateSyntaxError as e:
        raise DataError(f"the chat template is not valid Jinja: {e} (line {e.lineno})") from e


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
        raise DataError(f"{title} refuses the conversation: {_plainly(e.message)}") from e
    except _FAILURES as e:
        raise DataError(f"{title} fails on the conversation: {_plainly(str(e))}") from e


def _plainly(reason: str | None) -> str:
    """Return why a template fails as it would be said without tracing."""
    for traced_name, plain in _PLAIN.items():
        reason = str(reason).replace(traced_name, plain)
    return str(reason)


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
        self._ways: dict[Any, tuple[str, ...]] = {}
        self.special_run = re.compile(f"(?:{self.special.pattern})+")
        self.text_of_marks = ""
        closing = self._probe()
        run = self.special_run.search(closing)
        self.closes = run is not None
        self.closing = (closing[: run.end()] if run else closing).strip()

    def _traced(
        self, messages: Sequence[Message], tools: Any, *, prompt: bool = False
    ) -> tuple[Traced, Parts]:
        """Return the conversation as a traced text, and its parts.

        Raises:
            DataError: the template refuses the conversation, or fails on it.
        """
        self.template.environment.steps = 0  # type: ignore[attr-defined]
        copies, offered, parts = traced(messages, tools)
        with refusals(self.title):
            made = self.template.render(
                messages=copies,
                tools=offered,
                documents=None,
                add_generation_prompt=prompt,
                **self.names,
            )
        assert isinstance(made, Traced)
        return made, parts

    def form(self, messages: Sequence[Message], tools: Any) -> Form:
        """Return the conversation in the form of which the template writes most.

        The form is the usual one unless the template fails on it or leaves out parts that it writes
        in another.

        Raises:
            DataError: the template refuses the conversation in every form, or fails on it.
        """
        try:
            first = self._in_form(messages, tools, ())
        except DataError as e:
            ways = self._remembered(str(e), lambda: self._repairing(messages, tools))
            if not ways:
                raise
            return self._in_form(messages, tools, ways)
        if not first.unwritten:
            return first
        key = frozenset(part.kind for part in first.unwritten)
        ways = self._remembered(key, lambda: self._fullest(messages, tools, (), first))
        other = self._tried(messages, tools, ways) if ways else None
        return other if other is not None and other.writes_more(first) else first

    def _remembered(self, key: Any, search: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
        if key not in self._ways:
            self._ways[key] = search()
        return self._ways[key]

    def _in_form(self, messages: Sequence[Message], tools: Any, ways: Sequence[str]) -> Form:
        messages, tools = formed(messages, tools, ways)
        text, parts = self._traced(messages, tools)
        return Form(messages, tools, text, parts, parts.unwritten(text), tuple(ways))

    def _tried(self, messages: Sequence[Message], tools: Any, ways: Sequence[str]) -> Form | None:
        """Return the conversation in a form, or None if the template cannot take it."""
        try:
            found = self._in_form(messages, tools, ways)
        except DataError:
            return None
        return None if _LISTED in found.text else found  # it writes the list of parts, not theirs

    def _repairing(self, messages: Sequence[Message], tools: Any) -> tuple[str, ...]:
        """Return the fewest ways to a form that the template can take, or none."""
        changing = [w for w in WAYS if formed(messages, tools, (w,)) != (messages, tools)]
        for count in (1, 2):
            for ways in itertools.combinations(changing, count):
                found = self._tried(messages, tools, ways)
                if found is not None:
                    return self._fullest(messages, tools, ways, found)
        return ()

    def _fullest(
        self, messages: Sequence[Message], tools: Any, ways: tuple[str, ...], found: Form
    ) -> tuple[str, ...]:
        """Return the ways, and more of them as long as the template then leaves out less."""
        for way in WAYS:
            if not found.unwritten:
                break
            if way in ways or formed(found.messages, found.tools, (way,)) == (
                found.messages,
                found.tools,
            ):
                continue
            other = self._tried(messages, tools, (*ways, way))
            if other is not None and other.writes_more(found):
                ways, found = (*ways, way), other
        return ways

    def text(
        self, messages: Sequence[Message], *, tools: Any = None, prompt: bool = False
    ) -> Traced:
        """Return the conversation as a traced text; `prompt` adds the generation prompt.

        Raises:
            DataError: the template refuses the conversation, or fails on it.
        """
        return self._traced(messages, tools, prompt=prompt)[0]

    def prompt(self, messages: Sequence[Message], last: int, tools: Any) -> str:
        """Return the text that a model is given to write message `last`, or the one behind the end.

        Raises:
            DataError: the template refuses the conversation, or fails on it.
        """
        whole = self.form(messages, tools)
        return str.__str__(self.text(whole.messages[:last], tools=whole.tools, prompt=True))

    def render(self, messages: Sequence[Message], *, tools: Any = None) -> Rendered:
        """Return the conversation's text and the spans the model writes.

        Raises:
            DataError: the template refuses the conversation.
        """
        form = self.form(messages, tools)
        spans: list[Span] = []
        silent: dict[int, str] = {}
        closed = False
        for i, message in enumerate(form.messages):
            if message["role"] != "assistant":
                continue
            names = form.parts.calls_in(i) if message.get("tool_calls") else 0
            extent = _extent(form.text, i, names)
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
        """Say how much of the template's text behind an answer belongs to it.

        Args:
            behind: what the template writes from there to the next message's text.
            calls: whether the answer ends with tool calls, behind which a template writes more.
            final: whether no message stands behind it.

        Returns:
            Where its end token begins and ends, and whether it is a special token.
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
        found = self.special.search(behind) if calls else None
        whole = len(behind.rstrip()) if calls and final else 0
        whole = (
            found.start() if found else whole
        )  # turns have no end token; the next begins with one
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
        """Return what the template writes between the earlier messages' texts and an answer."""
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
        """Return what the template writes behind the last answer of a conversation."""
        try:
            text = self.text(_PROBE)
        except DataError:  # a template for one fixed purpose; each row will say what it needs
            return ""
        self.text_of_marks = str.__str__(text)
        _, first, last, after = _extent(text, 1, 0)
        return str.__getitem__(text, slice(last, after)) if first >= 0 else ""


def _extent(text: Traced, message: int, names: int) -> tuple[int, int, int, int]:
    """Find the stretch of `text` that belongs to a message with no other message's text within.

    Args:
        text: the conversation.
        message: the position of the message.
        names: the names of its calls as bits, of which the first place counts: a template may
            repeat them beside the results.

    Returns:
        The end of the text of another message before it, its first character, the end of its last,
        and the first character of another message behind it. The first is -1 if there is none.
    """
    before, first, last, at = 0, -1, 0, 0
    for length, owner in text.runs:
        who = message_of(owner)
        if who == message or (who == NO_MESSAGE and parts_of(owner) & names):
            names &= ~parts_of(owner)
            first = at if first < 0 else first
            last = at + length
        elif who != NO_MESSAGE:
            if first >= 0:
                return before, first, last, at
            before = at + length
        at += length
    return before, first, last, len(text)
