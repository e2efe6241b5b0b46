"""What llama.cpp's grammar would leave out of a JSON schema is known before it is asked."""

import pytest

from strop.serving.json_schema import dropped, impossible, pattern_fault


@pytest.mark.parametrize(
    "pattern",
    [
        r"^abc$",
        r"^[0-9]{3}$",
        r"^(a|bc)+$",
        r"^(?:ab){1,2}x?$",
        r"^\$[a-z_]*\.$",
        r"^a|b$",
        r"^é-1$",
    ],
)
def test_a_pattern_of_characters_sets_groups_and_repetitions_is_served(pattern):
    assert pattern_fault(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    [
        r"^hello there\!(?=x)$",
        r"^a(?!b)c$",
        r"^(?<=a)b$",
        r"^\d+$",
        r"^[\w.]+$",
        r"^(a)\1$",
        r"^a\b$",
        r"^\p{L}$",
        r"^^a$",
        r"^a{3,2}$",
        r"^a{0}$",
        r"^(a$",
        r"^a)$",
        r"^*a$",
        r"^(a|)$",
        r"^()$",
        r"^[a$",
        "a",
        "^",
        "",
        5,
    ],
)
def test_a_pattern_that_would_be_dropped_or_cannot_be_met_is_a_fault(pattern):
    assert pattern_fault(pattern)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]},
        {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 3},
        {"type": "integer", "minimum": 0, "exclusiveMaximum": 10, "description": "a digit"},
        {"type": ["string", "null"], "maxLength": 5},
        {"enum": ["a", 1, None], "title": "kind"},
        {"anyOf": [{"const": 1}, {"type": "boolean"}]},
        {"$ref": "#/$defs/x", "$defs": {"x": {"type": "string", "format": "date-time"}}},
        {"allOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": {"properties": {"a": {"type": "null"}}}}},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "string", "format": "email"},
    ],
    ids=str,
)
def test_a_schema_that_becomes_a_grammar_as_a_whole_is_served(schema):
    assert list(dropped(schema)) == []


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"properties": {"x": {"pattern": "^(?=x)$"}}}, r"properties.x: pattern '^(?=x)$'"),
        ({"type": "number", "minimum": 3}, "the schema: minimum"),
        ({"type": "integer", "multipleOf": 3}, "the schema: multipleOf"),
        ({"not": {"type": "string"}}, "the schema: not"),
        ({"items": {"type": "array", "uniqueItems": True}}, "items: uniqueItems"),
        ({"type": "object", "patternProperties": {"^a$": {}}}, "the schema: patternProperties"),
        ({"type": "object", "minProperties": 2}, "the schema: minProperties"),
        ({"if": {}, "then": {}}, "the schema: if, then"),
        ({"type": "string", "pattern": "^a$", "minLength": 3}, "the schema: minLength"),
        ({"properties": {"a": {}}, "required": ["b"]}, "required b without its property"),
        ({"allOf": [{"minimum": 3}]}, "the schema: allOf"),
        ({"$defs": {"x": {"contains": {}}}, "$ref": "#/$defs/x"}, "$defs.x: contains"),
        ({"anyOf": [{"type": "string"}, {"dependentRequired": {}}]}, "anyOf[1]: dependentRequired"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "minLength above maxLength"),
    ],
    ids=str,
)
def test_what_would_be_dropped_is_named_with_its_place(schema, expected):
    assert any(fault.startswith(expected) or expected in fault for fault in dropped(schema))


def test_a_schema_within_ever_more_schemas_ends():
    schema = {"type": "string"}
    for _ in range(500):
        schema = {"type": "array", "items": schema}
    assert "within more than 64" in " ".join(dropped(schema))


def test_bounds_that_nothing_meets_are_named_anywhere():
    assert impossible({"properties": {"a": [{"minItems": 3, "maxItems": 2}]}})
    assert impossible({"pattern": "^a{4,2}$"})
    assert not impossible({"pattern": "^a{2,4}b{2,}$", "minimum": 1, "maximum": 1})
