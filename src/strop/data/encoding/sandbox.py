"""Sandbox for chat templates: that of transformers, with texts that keep their origins.

Filters, operators and calls that would return a plain text are wrapped here, so that a text that a
template computes from a message still belongs to that message. Templates come from strangers, so
loops and texts that grow without bound are refused.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import jinja2
import jinja2.compiler
import jinja2.ext
import jinja2.filters
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from strop.data.encoding.tracing import Traced, derived, joined, joined_by, joined_with, owners

_COUNTERS = ("tick", "tick_call")

MOST_STEPS = 2_000_000
"""Most iterations of loops and calls of macros in one rendering."""

LONGEST_TEXT = 64 * 2**20
"""Most characters of a text that a template computes."""

_LARGEST_NUMBER = 1_000_000


class _Generator(jinja2.compiler.CodeGenerator):
    """Generates code in which `~` keeps origins and loops count steps."""

    def visit_EnvironmentAttribute(  # noqa: N802
        self, node: jinja2.nodes.EnvironmentAttribute, frame: jinja2.compiler.Frame
    ) -> None:
        self.write(f"environment.{node.name}" + ("()" if node.name in _COUNTERS else ""))

    def visit_Concat(self, node: jinja2.nodes.Concat, frame: jinja2.compiler.Frame) -> None:  # noqa: N802
        self.write("environment.concat((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class GenerationTag(jinja2.ext.Extension):
    """Tag `{% generation %}`, with which some templates mark the model's text."""

    tags = {"generation"}  # noqa: RUF012 - the type jinja2 declares

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        """Return the block as a call that returns its content."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller: Callable[[], str]) -> str:
        return caller()


def _tracing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the filter, wrapped so that a text computed from traced ones keeps their owner."""

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        _refuse_huge(args, kwargs)
        value = function(*args, **kwargs)
        if isinstance(value, str) and not isinstance(value, Traced) and owners((args, kwargs)):
            return derived(value, (args, kwargs))
        return value

    return traced


class TracingEnvironment(ImmutableSandboxedEnvironment):
    """Sandbox with the settings and names that transformers gives chat templates."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(("%", "+", "*", "**"))
    concat = staticmethod(lambda parts: _bounded(parts))
    steps = 0

    def __init__(self) -> None:
        loops = jinja2.ext.LoopControlExtension
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loops])
        self.filters["tojson"] = _to_json
        self.filters["join"] = _join
        self.filters = {name: _tracing(function) for name, function in self.filters.items()}
        del self.globals["lipsum"]
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = _now

    def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
        tree = super()._parse(source, name, filename)
        nodes: Iterable[Any] = tree.find_all((jinja2.nodes.For, jinja2.nodes.Macro))
        for node in nodes:
            count = jinja2.nodes.ExprStmt(
                jinja2.nodes.EnvironmentAttribute(_COUNTERS[isinstance(node, jinja2.nodes.Macro)])
            )
            node.body.insert(0, count.set_lineno(node.lineno))
        return tree

    def tick_call(self) -> None:
        """Count one call of a macro, which takes as long as many iterations of a loop."""
        self.steps += 20
        self.tick()

    def tick(self) -> None:
        """Count one iteration of a loop; refuse a rendering with too many."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise jinja2.TemplateError(f"it takes more than {MOST_STEPS:,} steps")

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call `obj` for a template; a text computed from traced ones keeps their owner."""
        _refuse_huge(args, kwargs)
        text = getattr(obj, "__self__", None)
        if isinstance(text, str) and obj.__name__ == "join":
            return joined_by(text, args[0])
        value = super().call(context, obj, *args, **kwargs)
        if type(value) is str and owners((args, kwargs)):
            return derived(value, (args, kwargs))
        return value

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator; a text computed from traced ones keeps their owner."""
        if operator == "+":
            total = left + right
            if isinstance(total, (str, list)) and len(total) > LONGEST_TEXT:
                raise jinja2.TemplateError("it makes a text that grows without bound")
            return total
        _refuse_huge((left, right) if operator == "**" else (), {})
        if operator == "*" and not isinstance(left, (int, float)) | isinstance(right, float):
            left, right = right, left
        grown = operator == "*" and isinstance(right, (str, list, tuple))
        if grown and len(right) * max(int(left), 0) > _LARGEST_NUMBER:
            raise jinja2.TemplateError("it makes a text that grows without bound")
        if operator == "%" and isinstance(left, str) and _WIDE.search(left):
            raise jinja2.TemplateError("it makes a text that grows without bound")
        value = super().call_binop(context, operator, left, right)
        if operator == "%" and isinstance(value, str) and owners((left, right)):
            return derived(str.__str__(value), (left, right))
        return value


def _bounded(parts: Iterable[Any]) -> Traced:
    text = joined(parts)
    if len(text) > LONGEST_TEXT:
        raise jinja2.TemplateError("it makes a text that grows without bound")
    return text


_WIDE = re.compile(r"%[^%a-zA-Z]*(\d{6}|\*)")


def _refuse_huge(args: Any, kwargs: dict[str, Any]) -> None:
    for value in (*args, *kwargs.values()):
        if isinstance(value, int) and abs(value) > _LARGEST_NUMBER:
            raise jinja2.TemplateError(f"it computes with the number {value:.3g}")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


@jinja2.pass_environment
def _join(
    environment: Any, value: Iterable[Any], d: str = "", attribute: str | int | None = None
) -> str:
    if attribute is not None:
        value = map(jinja2.filters.make_attrgetter(environment, attribute), value)
    return joined_with(d, value)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
