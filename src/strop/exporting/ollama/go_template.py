"""Renders the part of Go's text/template that Modelfiles need, as Ollama would.

Texts, `{{ value }}`, `{{ if }}`, `{{ else if }}`, `{{ else }}`, `{{ range $i, $v := list }}`,
`{{ $v := value }}`, `{{ $v = value }}`, `{{ end }}`; fields, variables, strings, and the functions
below. Source: pkg.go.dev/text/template. Anything else is refused.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from strop.core.errors import DataError

_TOKEN = re.compile(r'\s+|"(?:\\.|[^"\\])*"|\d+|\$?(?:\.?\w+)+|\$|[().]|:=|=|,')
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": lambda a, *others: any(a == b for b in others),
    "ne": lambda a, b: a != b,
    "not": lambda a: not a,
    "and": lambda *values: next((v for v in values if not v), values[-1]),
    "or": lambda *values: next((v for v in values if v), values[-1]),
    "len": len,
    "slice": lambda of, *ends: of[slice(*ends) if len(ends) > 1 else slice(ends[0], None)],
    "index": lambda of, *keys: _indexed(of, keys),
}


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return what a template makes of values.

    Args:
        template: its text.
        values: the fields of `.`; what is not there is empty, as with `missingkey=zero`.

    Raises:
        DataError: the template is damaged, or uses what is not known here.
    """
    parser = _Parser(template)
    nodes = parser.nodes(())
    return "".join(_run(nodes, _Scope(values, {"$": values})))


@dataclass(slots=True)
class _Node:
    """A text, an action or a block."""

    kind: str
    words: list[str]
    """Words of its action; for a text the text itself."""
    body: list["_Node"] = field(default_factory=list)
    otherwise: list["_Node"] = field(default_factory=list)


@dataclass(slots=True)
class _Scope:
    dot: Any
    variables: dict[str, Any]


class _Parser:
    def __init__(self, template: str) -> None:
        parts = re.split(r"(\{\{-?\s*.*?\s*-?\}\})", template, flags=re.DOTALL)
        for i in range(1, len(parts), 2):
            if parts[i].startswith("{{- "):
                parts[i - 1] = parts[i - 1].rstrip()
            if parts[i].endswith(" -}}"):
                parts[i + 1] = parts[i + 1].lstrip()
        self._parts, self._at = parts, 0

    def nodes(self, until: tuple[str, ...]) -> list[_Node]:
        """Return nodes up to an action that begins with one of some words, which is left."""
        nodes = []
        while self._at < len(self._parts):
            text = self._parts[self._at]
            if self._at % 2 == 0:
                nodes.append(_Node("text", [text]))
                self._at += 1
                continue
            words = _words(text[2:-2].strip("-"))
            if words[0] in until:
                return nodes
            self._at += 1
            nodes.append(self._block(words) if words[0] in ("if", "range") else _action(words))
        if until:
            raise DataError(f"the template ends before {' or '.join(until)}")
        return nodes

    def _block(self, words: list[str]) -> _Node:
        node = _Node(words[0], words[1:], self.nodes(("else", "end")))
        closing = _words(self._parts[self._at][2:-2].strip("-"))
        self._at += 1
        if closing[:2] == ["else", "if"]:
            node.otherwise = [self._block(closing[1:])]
        elif closing[0] == "else":
            node.otherwise = self.nodes(("end",))
            self._at += 1
        return node


def _words(action: str) -> list[str]:
    words, at = [], 0
    while at < len(action):
        match = _TOKEN.match(action, at)
        if match is None:
            raise DataError(f"the template has an action that is not known: {action.strip()}")
        at = match.end()
        if not match[0].isspace():
            words.append(match[0])
    if not words:
        raise DataError("the template has an empty action")
    return words


def _action(words: list[str]) -> _Node:
    if len(words) > 2 and words[1] in (":=", "="):
        return _Node("set", words)
    return _Node("print", words)


def _run(nodes: list[_Node], scope: _Scope) -> Iterator[str]:
    for node in nodes:
        if node.kind == "text":
            yield node.words[0]
        elif node.kind == "print":
            yield str(_value(node.words, scope))
        elif node.kind == "set":
            scope.variables[node.words[0]] = _value(node.words[2:], scope)
        elif node.kind == "if":
            yield from _run(node.body if _value(node.words, scope) else node.otherwise, scope)
        else:
            yield from _ranged(node, scope)


def _ranged(node: _Node, scope: _Scope) -> Iterator[str]:
    names: list[str] = []
    words = node.words
    if ":=" in words:
        at = words.index(":=")
        names, words = [w for w in words[:at] if w != ","], words[at + 1 :]
    items = _value(words, scope)
    dot = scope.dot
    for i, item in enumerate(items):
        scope.dot = item
        scope.variables.update(zip(names, (i, item) if len(names) > 1 else (item,), strict=True))
        yield from _run(node.body, scope)
    scope.dot = dot
    if not items:
        yield from _run(node.otherwise, scope)


def _value(words: list[str], scope: _Scope) -> Any:
    rest = list(words)
    value = _expression(rest, scope)
    if rest:
        raise DataError(f"the template has an action that is not known: {' '.join(words)}")
    return value


def _expression(rest: list[str], scope: _Scope) -> Any:
    """Take a call with its arguments, or one value, off the front of some words."""
    if rest and rest[0] in FUNCTIONS:
        function = FUNCTIONS[rest.pop(0)]
        arguments = []
        while rest and rest[0] != ")":
            arguments.append(_operand(rest, scope))
        return function(*arguments)
    return _operand(rest, scope)


def _operand(rest: list[str], scope: _Scope) -> Any:
    if not rest:
        raise DataError("the template has an action without a value")
    word = rest.pop(0)
    if word == "(":
        value = _expression(rest, scope)
        if not rest or rest.pop(0) != ")":
            raise DataError("the template has a bracket that is not closed")
        if rest and rest[0].startswith(".") and len(rest[0]) > 1:
            return _fields(value, rest.pop(0))
        return value
    if word.startswith('"'):
        return json.loads(word)
    if word.isdigit():
        return int(word)
    if word in ("true", "false"):
        return word == "true"
    if word.startswith("$"):
        name, dot, fields = word.partition(".")
        if name not in scope.variables:
            raise DataError(f"the template names {name}, which is not set")
        return _fields(scope.variables[name], dot + fields)
    if word.startswith("."):
        return _fields(scope.dot, word)
    raise DataError(f"the template uses {word}, which is not known")


def _fields(value: Any, path: str) -> Any:
    for name in path.split(".")[1:]:
        if name:
            value = value.get(name, "")
    return value


def _indexed(of: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        of = of[key]
    return of
