"""Rows of any shape: a finding or a clear error, never a crash."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strop.data import DataError, check, fix
from strop.data.formats.known import KNOWN_COLUMNS
from strop.data.formats.messages import ROLES

TEXTS = st.sampled_from(["", " ", "a", "nan", "[]", "[", "{}", '[{"role": "user"}]', "\ud83d", "1"])
LEAVES = st.one_of(TEXTS, st.none(), st.booleans(), st.integers(-1, 2), st.floats())
FIELDS = st.sampled_from(
    [
        *("role", "from", "content", "value", "text", "type", "weight", "train", "tool_calls"),
        *("name", "function", "function_call", "arguments", "reasoning", "user", "assistant"),
    ]
)
VALUES = st.recursive(
    LEAVES | st.sampled_from([*ROLES, "human", "gpt", "function_call"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from([*ROLES, "gpt", "tool_call"]), "content": VALUES},
        optional={"tool_calls": VALUES, "function_call": VALUES, "weight": LEAVES, "train": LEAVES},
    )
    | VALUES,
    max_size=3,
)
ROWS = st.dictionaries(st.sampled_from(sorted(KNOWN_COLUMNS)), VALUES | MESSAGES, max_size=5)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(ROWS, min_size=1, max_size=3))
def test_rows_of_any_shape_give_findings_or_one_clear_error(rows, tmp_path_factory):
    try:
        report = check(rows)
    except DataError:
        return
    assert report.total == len(rows)
    json.dumps(report.as_json())
    if report.usable:
        fix(rows, tmp_path_factory.getbasetemp() / "fixed.jsonl")
