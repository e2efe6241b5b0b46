"""Parts of a JSON schema that llama.cpp's grammar leaves out without an error to the client.

llama.cpp turns a schema into a grammar. Keywords and patterns that its converter does not know it drops,
with at most a line on standard error, and answers with 200. The rules below are those of its converter.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_ASSERTIONS = frozenset(
    (
        "type",
        "enum",
        "const",
        "multipleOf",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "maxLength",
        "pattern",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "properties",
        "required",
        "additionalProperties",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "unevaluatedItems",
        "unevaluatedProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "$ref",
        "$dynamicRef",
        "$recursiveRef",
    )
)
_BOUNDS = (
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minimum", "maximum"),
)
_FORMATS = re.compile(r"uuid[1-5]?|date|time|date-time")
_DEEPEST = 64


def dropped(schema: Any, path: str = "", depth: int = 0) -> Iterator[str]:
    """Yield what of a schema would not be enforced, each as `where: what`.

    Args:
        schema: as the request has it.
        path: where it stands in the whole.
        depth: how many schemas it lies within.
    """
    if not isinstance(schema, Mapping):
        return  # the converter itself refuses it
    here = path or "the schema"
    if depth > _DEEPEST:
        yield f"{here}: schemas within more than {_DEEPEST} others"
        return
    used = _used(schema)
    left = sorted((schema.keys() & _ASSERTIONS) - used)
    if left:
        yield f"{here}: {', '.join(left)}"
    if "pattern" in used and (fault := pattern_fault(schema["pattern"])):
        yield f"{here}: pattern {schema['pattern']!r}, {fault}"
    for low, high in _BOUNDS:
        least, most = schema.get(low), schema.get(high)
        if isinstance(least, int | float) and isinstance(most, int | float) and least > most:
            yield f"{here}: {low} above {high}"
    names = schema.get("properties")
    if (
        "required" in used
        and isinstance(names, Mapping)
        and isinstance(schema.get("required"), list)
    ):
        absent = [name for name in schema["required"] if name not in names]
        if absent:
            yield f"{here}: required {', '.join(map(str, absent))} without its property"
    for name, inner in _within(schema, used):
        yield from dropped(inner, f"{path}.{name}" if path else name, depth + 1)


def impossible(schema: Any) -> bool:
    """Return whether a bound or a repetition anywhere in a schema ends below its beginning."""
    if isinstance(schema, list):
        return any(map(impossible, schema))
    if not isinstance(schema, Mapping):
        return False
    for low, high in _BOUNDS:
        least, most = schema.get(low), schema.get(high)
        if isinstance(least, int | float) and isinstance(most, int | float) and least > most:
            return True
    counts = _COUNT.findall(str(schema.get("pattern", "")))
    if any(int(least or 0) > int(most) for least, most in counts):
        return True
    return any(map(impossible, schema.values()))


_COUNT = re.compile(r"\{(\d*),(\d+)\}")


def _used(schema: Mapping[str, Any]) -> set[str]:
    """Return the keywords that the converter turns into a grammar; the others it passes over."""
    kind = schema.get("type")
    if "$ref" in schema:
        return {"$ref"}
    for name in ("oneOf", "anyOf"):
        if name in schema:
            return {name, "type"}
    if isinstance(kind, list):
        return set().union(*(_used({**schema, "type": one}) for one in kind), {"type"})
    for name in ("const", "enum"):
        if name in schema:
            return {name, "type"}
    more = schema.get("additionalProperties", True)
    if kind in (None, "object") and ("properties" in schema or more is not True):
        return {"type", "properties", "required", "additionalProperties"}
    if kind in (None, "object", "string") and "allOf" in schema:
        plain = all(_joins(part) for part in _listed(schema["allOf"]))
        return {"type", "allOf"} if plain else {"type"}
    if kind in (None, "array") and ("items" in schema or "prefixItems" in schema):
        if isinstance(schema.get("items", schema.get("prefixItems")), list):
            return {"type", "items"} if "items" in schema else {"type", "prefixItems"}
        return {"type", "items", "minItems", "maxItems"}
    return _used_of_primitive(schema, kind)


def _used_of_primitive(schema: Mapping[str, Any], kind: Any) -> set[str]:
    if kind in (None, "string") and "pattern" in schema:
        return {"type", "pattern"}
    if kind in (None, "string") and _FORMATS.fullmatch(str(schema.get("format", ""))):
        return {"type"}
    if kind == "string":
        return {"type", "minLength", "maxLength"}
    if kind == "integer":
        return {"type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    return {"type", "additionalProperties"}


def _joins(part: Any) -> bool:
    """Return whether a part of allOf is one that the converter joins with the others."""
    known = {"$ref", "properties", "required", "type", "additionalProperties"}
    return isinstance(part, Mapping) and not (part.keys() & _ASSERTIONS) - known and len(part) > 0


def _within(schema: Mapping[str, Any], used: set[str]) -> Iterator[tuple[str, Any]]:
    """Yield the schemas inside one, each with its place."""
    for name in ("properties", "$defs", "definitions"):
        inner = schema.get(name)
        if isinstance(inner, Mapping) and (name in used or name not in _ASSERTIONS):
            yield from ((f"{name}.{key}", value) for key, value in inner.items())
    for name in ("oneOf", "anyOf", "allOf", "items", "prefixItems"):
        if name in used:
            inner = schema.get(name)
            yield from ((f"{name}[{i}]", value) for i, value in enumerate(_listed(inner)))
            if isinstance(inner, Mapping):
                yield name, inner
    if "additionalProperties" in used:
        yield "additionalProperties", schema.get("additionalProperties")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


_PIECE = re.compile(
    r"""(?P<group>\((?:\?:)?(?!\?))
    |(?P<close>\))
    |(?P<set>\[\^?(?:[^\]\\\["]|\\[\]\[^-])+\])
    |(?P<count>\{(?P<least>\d{1,4})(?P<comma>,)?(?P<most>\d{1,4})?\}\??|[*+?]\??)
    |(?P<bar>\|)
    |(?P<atom>\\[\^$.\[\]()|{}*+?]|[^\\\[\](){}*+?|^$"\x00-\x1f])""",
    re.VERBOSE,
)


def pattern_fault(pattern: Any) -> str | None:
    r"""Return why a pattern cannot be made into a grammar, or None if it can.

    What can: a pattern from ^ to $ of characters, sets such as [a-z0-9_], groups, alternatives and
    repetitions. What cannot: classes such as \d, look-ahead, references, word borders.
    """
    if not isinstance(pattern, str) or not re.fullmatch(r"\^.+\$", pattern, re.DOTALL):
        return "which must go from ^ to $"
    rest, open_groups, repeatable, empty = pattern[1:-1], 0, False, True
    at = 0
    while at < len(rest):
        match = _PIECE.match(rest, at)
        if match is None:
            return f"of which {rest[at : at + 4]!r} is not served; write out sets such as [0-9]"
        if match["count"] and not repeatable:
            return "which repeats nothing"
        least, most = match["least"], match["most"]
        high = most if match["comma"] else least
        if high is not None and (int(high) < int(least) or int(high) == 0):
            return f"whose repetition {match['count']} cannot be met"
        if empty and (match["close"] or match["bar"]):
            return "which has an empty part"
        empty = bool(match["group"] or match["bar"])
        open_groups += bool(match["group"]) - bool(match["close"])
        if open_groups < 0:
            break
        repeatable = bool(match["set"] or match["atom"] or match["close"])
        at = match.end()
    if open_groups or empty:
        return "whose groups are not closed" if open_groups else "which has an empty part"
    return None
