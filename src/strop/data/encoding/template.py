"""A chat template, compiled to render conversations as traced texts."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jinja2

from strop.core.errors import DataError
from strop.data.encoding.parts import Parts, traced
from strop.data.encoding.sandbox import TracingEnvironment
from strop.data.encoding.tracing import Traced, UntraceableError
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


class ChatTemplate:
    """A chat template with the variables it reads beside messages and tools.

    Args:
        source: its Jinja source.
        variables: the variables by name, such as `bos_token`.
        title: its name in errors.
    """

    def __init__(self, source: str, variables: dict[str, Any], title: str) -> None:
        self.source = source
        self.title = title
        self._compiled = _compiled(source)
        self._variables = variables

    def render(
        self, messages: Sequence[Message], tools: Any, *, prompt: bool = False
    ) -> tuple[Traced, Parts]:
        """Return the conversation as a traced text, and its parts; `prompt` adds the generation prompt.

        Raises:
            DataError: the template refuses the conversation, or fails on it.
        """
        self._compiled.environment.steps = 0  # type: ignore[attr-defined]
        copies, traced_tools, parts = traced(messages, tools)
        with refusals(self.title):
            text = self._compiled.render(
                messages=copies,
                tools=traced_tools,
                documents=None,
                add_generation_prompt=prompt,
                **self._variables,
            )
        assert isinstance(text, Traced)
        return text, parts


@functools.cache
def _compiled(source: str) -> jinja2.Template:
    try:
        return TracingEnvironment().from_string(source)
    except jinja2.TemplateSyntaxError as e:
        raise DataError(f"the chat template is not valid Jinja: {e} (line {e.lineno})") from e


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
