"""Sandboxes for chat templates: that of transformers with limits, and one that keeps origins.

Both give a template the settings and names that transformers gives it. In the second one filters,
operators and calls that would return a plain text are wrapped, so that a text that a template
computes from a message still belongs to that message.
"""

import contextlib
import functools
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time
from typing import Any

import jinja2
import jinja2.compiler
import jinja2.ext
import jinja2.filters
import jinja2.nodes
import jinja2.runtime
from jinja2.sandbox import ImmutableSandboxedEnvironment

from strop.data.encoding.limits import Meter, TemplateDict, TemplateNamespace, refuse_huge
from strop.data.encoding.tracing import Traced, derived, joined, joined_by, joined_with, owners

_COUNTERS = ("tick", "tick_call")
_STEPS_OF_CALL = 20
"""Iterations of a loop that take as long as a call of a macro."""


class _Generator(jinja2.compiler.CodeGenerator):
    """Generates code that counts steps and whatever is made without a call."""

    def visit_EnvironmentAttribute(  # noqa: N802
        self, node: jinja2.nodes.EnvironmentAttribute, scope: Any
    ) -> None:
        self.write(f"environment.{node.name}" + ("()" if node.name in _COUNTERS else ""))

    def visit_Concat(self, node: jinja2.nodes.Concat, scope: Any) -> None:  # noqa: N802
        self.write("environment.concat((")
        for part in node.nodes:
            self.visit(part, scope)
            self.write(", ")
        self.write("))")

    def visit_List(self, node: jinja2.nodes.List, scope: Any) -> None:  # noqa: N802
        self._counted(super().visit_List, node, scope)

    def visit_Dict(self, node: jinja2.nodes.Dict, scope: Any) -> None:  # noqa: N802
        self._counted(super().visit_Dict, node, scope)

    def visit_Tuple(self, node: jinja2.nodes.Tuple, scope: Any) -> None:  # noqa: N802
        if node.ctx == "load":
            self._counted(super().visit_Tuple, node, scope)
        else:
            super().visit_Tuple(node, scope)

    def visit_Getitem(self, node: jinja2.nodes.Getitem, scope: Any) -> None:  # noqa: N802
        if isinstance(node.arg, jinja2.nodes.Slice):
            self._counted(super().visit_Getitem, node, scope)
        else:
            super().visit_Getitem(node, scope)

    def _counted(self, visit: Callable[..., None], node: Any, scope: Any) -> None:
        self.write("environment.charge(")
        visit(node, scope)
        self.write(")")


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


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Sandbox with the settings and names that transformers gives chat templates, and limits."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(("%", "+", "*", "**"))

    def __init__(self) -> None:
        loops = jinja2.ext.LoopControlExtension
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loops])
        self._rendering = threading.Lock()
        self.meter = Meter()
        self.day: date | None = None
        self.filters["tojson"] = _to_json
        self.filters = {name: self._filter(name, each) for name, each in self.filters.items()}
        del self.globals["lipsum"]
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = self._strftime_now
        self.globals["dict"] = TemplateDict()
        self.globals["namespace"] = TemplateNamespace

    @contextlib.contextmanager
    def rendering(self, given: Any, day: date | None) -> Iterator[None]:
        """Hold the limits against what is rendered inside; other threads wait.

        Args:
            given: what the template is given.
            day: the day that it writes as today's; None for today.
        """
        with self._rendering:
            self.meter, self.day = Meter(given), day
            try:
                yield
            finally:
                self.meter = Meter()

    def _strftime_now(self, pattern: str) -> str:
        return datetime.combine(self.day or date.today(), time()).strftime(pattern)

    def _filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a filter with limits."""
        skipped = hasattr(function, "jinja_pass_arg")

        @functools.wraps(function)
        def limited(*args: Any, **kwargs: Any) -> Any:
            refuse_huge(args, kwargs)
            self.meter.before_filter(name, args[skipped:], kwargs)
            return self.charge(function(*args, **kwargs))

        return limited

    def charge(self, value: Any) -> Any:
        """Count a value that the template made, and return it."""
        return self.meter.charge(value)

    def concat(self, parts: Iterable[Any]) -> str:
        """Return the parts as one text, refused while it grows too long."""
        return str(self.charge("".join(self._bounded(parts))))

    def _bounded(self, parts: Iterable[Any]) -> Iterator[str]:
        length = 0
        for part in parts:
            if not isinstance(part, str):
                self.meter.size(part)
            text = part if isinstance(part, str) else str(part)
            length += len(text)
            self.meter.check_length(length)
            yield text

    def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
        tree = super()._parse(source, name, filename)
        nodes: Iterable[Any] = tree.find_all((jinja2.nodes.For, jinja2.nodes.Macro))
        for node in nodes:
            counter = _COUNTERS[isinstance(node, jinja2.nodes.Macro)]
            count = jinja2.nodes.ExprStmt(jinja2.nodes.EnvironmentAttribute(counter))
            node.body.insert(0, count.set_lineno(node.lineno))
            if isinstance(node, jinja2.nodes.For):
                function = jinja2.nodes.EnvironmentAttribute("iterated").set_lineno(node.lineno)
                call = jinja2.nodes.Call(function, [node.iter], [], None, None)
                node.iter = call.set_lineno(node.lineno)
        return tree

    def iterated(self, value: Any) -> Any:
        """Return what a loop goes through, if that is not a long text."""
        if isinstance(value, str):
            self.meter.before_filter("list", (value,), {})
        return value

    def tick_call(self) -> None:
        """Count one call of a macro."""
        self.meter.step(_STEPS_OF_CALL)

    def tick(self) -> None:
        """Count one iteration of a loop."""
        self.meter.step()

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call `obj` for a template."""
        refuse_huge(args, kwargs)
        text = getattr(getattr(obj, "__wrapped__", obj), "__self__", None)
        if isinstance(obj, jinja2.runtime.LoopContext) and args:
            self.iterated(args[0])
        if isinstance(text, str):
            self.meter.before_method(text, obj.__name__, args, kwargs)
        return self.charge(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator."""
        if operator == "**":
            refuse_huge((left, right), {})
        elif operator == "*":
            self.meter.before_times(left, right)
        elif operator == "%" and isinstance(left, str):
            self.meter.before_format(left, right if isinstance(right, tuple) else (right,))
        return self.charge(super().call_binop(context, operator, left, right))


class TracingEnvironment(LimitedEnvironment):
    """Sandbox in which texts keep their origins."""

    def __init__(self) -> None:
        super().__init__()
        join = self._filter("join", _join)
        self.filters = {
            name: _tracing(each) for name, each in (self.filters | {"join": join}).items()
        }

    def concat(self, parts: Iterable[Any]) -> Traced:
        """Return the parts as one traced text, refused while it grows too long."""
        text = joined(self._bounded(parts))
        self.charge(text)
        return text

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call `obj` for a template; a text computed from traced ones keeps their owner."""
        text = getattr(obj, "__self__", None)
        if isinstance(text, str) and obj.__name__ == "join":
            self.meter.before_method(text, "join", args, kwargs)
            return self.charge(joined_by(text, args[0]))
        value = super().call(context, obj, *args, **kwargs)
        if type(value) is str and owners((args, kwargs)):
            return derived(value, (args, kwargs))
        return value

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator; a text computed from traced ones keeps their owner."""
        value = super().call_binop(context, operator, left, right)
        if operator == "%" and isinstance(value, str) and owners((left, right)):
            return derived(str.__str__(value), (left, right))
        return value


def _tracing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the filter, wrapped so that a text computed from traced ones keeps their owner."""

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        value = function(*args, **kwargs)
        if isinstance(value, str) and not isinstance(value, Traced) and owners((args, kwargs)):
            return derived(value, (args, kwargs))
        return value

    return traced


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
