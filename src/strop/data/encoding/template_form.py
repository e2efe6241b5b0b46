"""Search for the form of a conversation of which a template writes most."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from strop.core.errors import DataError
from strop.data.encoding.parts import Part, Parts
from strop.data.encoding.template import ChatTemplate
from strop.data.encoding.tracing import Traced
from strop.data.formats.forms import WAYS, formed
from strop.data.rows import Message

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


class FormSearch:
    """Finds the form for each conversation; remembers what helped with conversations alike."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._ways: dict[Any, tuple[str, ...]] = {}

    def best(self, messages: Sequence[Message], tools: Any) -> Form:
        """Return the conversation in the form of which the template writes most.

        The form is the usual one unless the template fails on it or leaves out parts that it writes
        in another.

        Raises:
            DataError: the template refuses the conversation in every form, or fails on it.
        """
        try:
            usual = self._in_form(messages, tools, ())
        except DataError as e:
            ways = self._remembered(str(e), lambda: self._repairing(messages, tools))
            if not ways:
                raise
            return self._in_form(messages, tools, ways)
        if not usual.unwritten:
            return usual
        key = frozenset(part.kind for part in usual.unwritten)
        ways = self._remembered(key, lambda: self._fullest(messages, tools, (), usual))
        other = self._try(messages, tools, ways) if ways else None
        return other if other is not None and other.writes_more(usual) else usual

    def _remembered(self, key: Any, search: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
        if key not in self._ways:
            self._ways[key] = search()
        return self._ways[key]

    def _in_form(self, messages: Sequence[Message], tools: Any, ways: Sequence[str]) -> Form:
        messages, tools = formed(messages, tools, ways)
        text, parts = self._template.render(messages, tools)
        return Form(messages, tools, text, parts, parts.unwritten(text), tuple(ways))

    def _try(self, messages: Sequence[Message], tools: Any, ways: Sequence[str]) -> Form | None:
        """Return the conversation in a form, or None if the template cannot take it."""
        try:
            form = self._in_form(messages, tools, ways)
        except DataError:
            return None
        return None if _LISTED in form.text else form  # it writes the list, not its texts

    def _repairing(self, messages: Sequence[Message], tools: Any) -> tuple[str, ...]:
        """Return the fewest ways to a form that the template can take, or none."""
        changing = [w for w in WAYS if formed(messages, tools, (w,)) != (messages, tools)]
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
