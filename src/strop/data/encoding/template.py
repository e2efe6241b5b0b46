"""A chat template: renders conversations as traced texts, in the form of which it writes most."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import jinja2

from strop.core.errors import DataError
from strop.data.encoding.parts import REASONING, Part, Parts, traced
from strop.data.encoding.sandbox import LimitedEnvironment, TracingEnvironment
from strop.data.encoding.tracing import Traced, UntraceableError
from strop.data.formats.forms import WAYS, formed
from strop.data.rows import Message

_FAILURES = (
    *(TypeError, ValueError, ArithmeticError, KeyError, IndexError, AttributeError),
    *(RecursionError, MemoryError),
)
"""Exceptions of a template that meets input it was not written for."""

_PLAIN = {
    "strop.data.encoding.tracing.Traced": "str",
    "strop.data.encoding.tracing.OwnedDict": "dict",
}
_PLAIN |= {name.rpartition(".")[2]: plain for name, plain in _PLAIN.items()}
_LISTED = "{'type': 'text'"
"""Beginning of a list of parts that a template writes as a whole."""


@dataclass(frozen=True, slots=True)
class Form:
    """A conversation in one form, as a template renders it."""

    messages: list[Message]
    tools: Any
    text: Traced
    parts: Parts
    unwritten: list[Part]
    """Parts that the template leaves out."""
    ways: tuple[str, ...] = ()
    """Differences from the usual form; see `forms.WAYS`."""

    def writes_more(self, other: "Form") -> bool:
        """Return whether it leaves out only some of what another form leaves out."""
        return {(p.kind, p.message) for p in self.unwritten} < {
            (p.kind, p.message) for p in other.unwritten
        }


class ChatTemplate:
    """A chat template with the variables it reads beside messages and tools.

    Args:
        source: its Jinja source.
        variables: the variables by name, such as `bos_token`.
        title: its name in errors.
        day: the day that it writes as today's; None for today.
    """

    def __init__(
        self, source: str, variables: dict[str, Any], title: str, day: date | None = None
    ) -> None:
        self.source = source
        self.title = title
        self._variables = variables
        self._day = day
        self._ways: dict[Any, tuple[str, ...]] = {}
        """Ways that helped before, by error or kinds of unwritten parts, and the ways that change it."""

    def render(
        self, messages: Sequence[Message], tools: Any, *, prompt: bool = False
    ) -> tuple[Traced, Parts]:
        """Return the conversation as a traced text, and its parts; `prompt` adds the generation prompt.

        Raises:
            DataError: the template refuses the conversation, or fails on it.
        """
        copies, traced_tools, parts = traced(messages, tools)
        text = self._rendered(copies, traced_tools, prompt, traced=True)
        assert isinstance(text, Traced)
        return text, parts

    def plain(
        self,
        messages: Sequence[Message],
        tools: Any,
        *,
        prompt: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the conversation as the text that transformers renders with these variables.

        Raises:
            DataError: the template refuses the conversation, or fails on it.
        """
        copies = [_with_reasoning(plain_values(message)) for message in messages]
        return self._rendered(copies, plain_values(tools), prompt, traced=False, more=variables)

    def _rendered(
        self,
        messages: Any,
        tools: Any,
        prompt: bool,
        *,
        traced: bool,
        more: Mapping[str, Any] | None = None,
    ) -> str:
        compiled = _compiled(self.source, traced)
        environment: Any = compiled.environment
        with environment.rendering((messages, tools), self._day), refusals(self.title):
            return compiled.render(
                **{
                    "messages": messages,
                    "tools": tools,
                    "documents": None,
                    "add_generation_prompt": prompt,
                    **self._variables,
                    **(more or {}),
                }
            )

    def form(self, messages: Sequence[Message], tools: Any) -> Form:
        """Return the conversation in the form of which the template writes most.

        The form is the usual one unless the template fails on it or leaves out parts that it writes
        in another.

        Raises:
            DataError: the template refuses the conversation in every form, or fails on it.
        """
        try:
            usual = self._in_form(messages, tools, ())
        except DataError as e:
            changing = _changing(messages, tools)
            key = (str(e), changing)
            ways = self._remembered(key, lambda: self._repairing(messages, tools, changing))
            if not ways:
                raise
            return self._in_form(messages, tools, ways)
        if not usual.unwritten:
            return usual
        case = (frozenset(part.kind for part in usual.unwritten), _changing(messages, tools))
        ways = self._remembered(case, lambda: self._fullest(messages, tools, (), usual))
        other = self._try(messages, tools, ways) if ways else None
        return other if other is not None and other.writes_more(usual) else usual

    def _remembered(self, key: Any, search: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
        if key not in self._ways:
            self._ways[key] = search()
        return self._ways[key]

    def _in_form(self, messages: Sequence[Message], tools: Any, ways: Sequence[str]) -> Form:
        messages, tools = formed(messages, tools, ways)
        text, parts = self.render(messages, tools)
        return Form(messages, tools, text, parts, parts.unwritten(text), tuple(ways))

    def _try(self, messages: Sequence[Message], tools: Any, ways: Sequence[str]) -> Form | None:
        """Return the conversation in a form, or None if the template cannot take it."""
        try:
            form = self._in_form(messages, tools, ways)
        except DataError:
            return None
        return None if _LISTED in form.text else form  # it writes the list, not its texts

    def _repairing(
        self, messages: Sequence[Message], tools: Any, changing: Sequence[str]
    ) -> tuple[str, ...]:
        """Return the fewest of the ways to a form that the template can take, or none."""
        for count in (1, 2):
            for ways in itertools.combinations(changing, count):
                form = self._try(messages, tools, ways)
                if form is not None:
                    return self._fullest(messages, tools, ways, form)
        return ()

    def _fullest(
        self, messages: Sequence[Message], tools: Any, ways: tuple[str, ...], form: Form
    ) -> tuple[str, ...]:
        """Return the ways, extended while the template then leaves out less."""
        for way in WAYS:
            if not form.unwritten:
                break
            unchanged = (form.messages, form.tools)
            if way in ways or formed(form.messages, form.tools, (way,)) == unchanged:
                continue
            other = self._try(messages, tools, (*ways, way))
            if other is not None and other.writes_more(form):
                ways, form = (*ways, way), other
        return ways


def _changing(messages: Sequence[Message], tools: Any) -> tuple[str, ...]:
    """Return the ways that change the form of a conversation."""
    return tuple(w for w in WAYS if formed(messages, tools, (w,)) != (messages, tools))


@functools.lru_cache(maxsize=32)
def _compiled(source: str, traced: bool) -> jinja2.Template:
    environment = TracingEnvironment() if traced else LimitedEnvironment()
    try:
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as e:
        raise DataError(f"the chat template is not valid Jinja: {e} (line {e.lineno})") from e
    except (SyntaxError, RecursionError, MemoryError, ValueError, OverflowError) as e:
        raise DataError(f"the chat template is too large or nested too deeply: {e}") from e


def plain_values(value: Any) -> Any:
    """Return a copy of JSON values; in place of others the name of their type, as transformers has it."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return getattr(kind, f"__{kind.__name__}__")(value)
    if isinstance(value, Mapping):
        return {plain_values(k): plain_values(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(item) for item in value]
    return f"<{type(value).__name__}>"


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without nulls, its reasoning also under the names that templates read."""
    message = {key: value for key, value in message.items() if value is not None}
    if (reasoning := next((message[k] for k in REASONING if k in message), None)) is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


@contextlib.contextmanager
def refusals(title: str) -> Iterator[None]:
    """Raise DataError for whatever a template raises: it refuses the conversation or fails on it.

    Raises:
        DataError: an exception was raised.
    """
    try:
        yield
    except UntraceableError as e:
        raise DataError(
            f"{title} cannot be followed: {e}; give the tokenizer a template that writes each "
            "message's text as it is"
        ) from e
    except jinja2.TemplateError as e:
        raise DataError(f"{title} refuses the conversation: {_untraced(e.message)}") from e
    except _FAILURES as e:
        raise DataError(f"{title} fails on the conversation: {_untraced(str(e))}") from e


def _untraced(reason: str | None) -> str:
    """Return an error text with the names of traced types replaced by the plain ones."""
    for traced_name, plain in _PLAIN.items():
        reason = str(reason).replace(traced_name, plain)
    return str(reason)
