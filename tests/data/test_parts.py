"""What a chat template leaves out is named, part by part."""

import pytest

from strop.data import DataError, Fault, Row, Supervision, check, encode, prompt, read
from strop.data.checking.finding_kinds import KINDS
from strop.data.encoding.encode import encoded
from strop.data.encoding.parts import FINDINGS, LEFT_OUT
from strop.data.left_out import left_out
from strop.data.reading.columns import Columns
from strop.planning.settings import Settings
from strop.runs.run_data import read_and_split
from strop.training.dataset import encode as encode_rows
from tests.data import small

QUESTION = {"role": "user", "content": "Rain?"}
CALL = {
    "type": "function",
    "function": {"name": "rain", "arguments": {"city": "Oslo", "days": 3}},
}
NOW = {"type": "function", "function": {"name": "now", "arguments": {}}}
TOOLS = [
    {"type": "function", "function": {"name": "rain", "description": "Says.", "parameters": {}}}
]
RESULT = {"role": "tool", "name": "rain", "content": "dry"}


def says(content, **more):
    return {"role": "assistant", "content": content, **more}


def with_template(name):
    small_tokenizer = small.small_tokenizer()
    small_tokenizer.chat_template = name if "{" in name else small.packaged_template(name)
    return small_tokenizer


def spoken(example, tokenizer):
    return tokenizer.decode([i for i in example.labels if i >= 0])


THOUGHT = [QUESTION, says("No.", reasoning_content="hm")]
WITHIN = [QUESTION, says("<think>\nhm\n</think>\n\nNo.")]
EARLIER = [*THOUGHT, QUESTION, says("Yes.")]
SYSTEM = [{"role": "system", "content": "Be kind."}, QUESTION, says("No.")]
BESIDE = [QUESTION, says("I look.", tool_calls=[CALL])]
TWICE = [QUESTION, says("", tool_calls=[CALL, NOW])]
WHOLE = [QUESTION, says("", tool_calls=[CALL]), RESULT, says("No.")]

LEAVES_OUT = [
    ("smollm2", THOUGHT, None, {"dropped_reasoning"}),
    ("smollm2", EARLIER, None, {"dropped_earlier_reasoning"}),
    ("smollm2", WITHIN, None, set()),
    ("smollm2", BESIDE, TOOLS, {"dropped_calls", "dropped_tools"}),
    ("qwen3", THOUGHT, None, set()),
    ("qwen3", WITHIN, None, set()),
    ("qwen3", EARLIER, None, {"dropped_earlier_reasoning"}),
    ("qwen3", BESIDE, TOOLS, set()),
    ("qwen3", TWICE, TOOLS, set()),
    ("qwen3", WHOLE, TOOLS, {"dropped_names"}),
    ("qwen2_5", THOUGHT, None, {"dropped_reasoning"}),
    ("glm4moe", TWICE, TOOLS, set()),
    ("deepseek_r1_distill", WITHIN, None, {"dropped_reasoning"}),
    ("deepseek_r1_distill", THOUGHT, None, {"dropped_reasoning"}),
    ("deepseekv3", WITHIN, None, {"dropped_reasoning"}),
    ("deepseekv3", TWICE, TOOLS, {"dropped_tools"}),
    ("llama3_1", BESIDE, TOOLS, {"dropped_answer"}),
    ("llama3_1", SYSTEM, None, set()),
    ("gptoss", THOUGHT, None, set()),
    ("gptoss", TWICE, TOOLS, {"dropped_calls"}),
    ("gptoss", BESIDE, TOOLS, set()),
    ("muse_glimmer", BESIDE, TOOLS, {"dropped_answer"}),
    ("phi3", SYSTEM, None, set()),
    ("idefics3", SYSTEM, None, set()),
]


@pytest.mark.parametrize(
    ("template", "messages", "tools", "kinds"),
    LEAVES_OUT,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_part_that_a_template_leaves_out_is_named(template, messages, tools, kinds):
    tokenizer = with_template(template)
    assert set(encode(Row(1, messages, tools=tools), tokenizer).dropped) == kinds
    report = check([{"messages": messages, "tools": tools}] * 3, tokenizer)
    findings = {f.kind: f for f in report.findings if f.kind.startswith("dropped_")}
    assert findings.keys() == kinds
    assert all(f.rows == [1, 2, 3] for f in findings.values())
    assert all(f.message.startswith("3 rows have ") for f in findings.values())


ONLY = "{% for m in messages if m.role in ROLES %}{{ m.role + m.content }}<|im_end|>{% endfor %}"


@pytest.mark.parametrize(
    ("roles", "kind"),
    [
        (("user", "assistant", "tool"), "dropped_system"),
        (("system", "user", "assistant"), "dropped_tool_results"),
        (("system", "assistant", "tool"), "dropped_questions"),
    ],
)
def test_a_message_of_a_role_that_a_template_skips_is_named(roles, kind):
    messages = [*SYSTEM[:2], says("a"), {"role": "tool", "content": "b"}, says("c")]
    tokenizer = with_template(ONLY.replace("ROLES", repr(roles)))
    assert encode(Row(1, messages), tokenizer).dropped == (kind,)


CUTS = {
    "{{ m.content[:4] }}": True,
    "{{ m.content.split()[0] }}": True,
    "{{ m.content | replace('two', '') }}": True,
    "{{ m.content | trim }}": False,
    "{{ m.content | upper }}": False,
    "{{ m.content | tojson }}": False,
    "{{ m.content.split() | join(' ') }}": False,
}


@pytest.mark.parametrize("expression", CUTS)
def test_an_answer_that_is_cut_is_named_and_one_that_is_written_otherwise_is_not(expression):
    tokenizer = with_template("{% for m in messages %}" + expression + "<|im_end|>{% endfor %}")
    example = encode(Row(1, [says("one two  three ")]), tokenizer)
    assert example.dropped == (("dropped_answer",) if CUTS[expression] else ())


def test_an_argument_that_is_left_out_is_named():
    template = (
        "{% for m in messages %}{{ m.role + m.content }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name + c.function.arguments.city }}{% endfor %}<|im_end|>{% endfor %}"
    )
    assert encode(Row(1, BESIDE), with_template(template)).dropped == ("dropped_calls",)


def test_an_answer_of_which_nothing_is_written_is_an_error_only_where_it_is_learned():
    tokenizer = with_template("smollm2")
    messages = [*WHOLE[:2], QUESTION, says("No.")]
    for supervision, weights in ((Supervision(), None), (Supervision(), (1, 1, 1, 0))):
        with pytest.raises(
            DataError,
            match=r"leaves out tool calls, which are the answer in message 2; take a model",
        ):
            encode(Row(1, messages, weights=weights), tokenizer, supervision=supervision)
    template = (
        "{% for m in messages %}{% if m.content %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    )
    tokenizer = with_template(template)
    for supervision, weights in (
        (Supervision(answers="last"), None),
        (Supervision(), (1, 0, 1, 1)),
    ):
        example = encode(Row(1, messages, weights=weights), tokenizer, supervision=supervision)
        assert example.dropped == ("dropped_context",)
        assert spoken(example, tokenizer) == "No.<|im_end|>"


@pytest.mark.parametrize("template", ["qwen3", "glm4moe", "gptoss", "deepseekv3"])
def test_a_call_without_arguments_is_an_answer(template):
    tokenizer = with_template(template)
    example = encode(Row(1, [QUESTION, says("", tool_calls=[NOW])], tools=TOOLS), tokenizer)
    assert "now" in spoken(example, tokenizer)
    assert "Rain?" not in spoken(example, tokenizer)


@pytest.mark.parametrize(
    ("template", "end"),
    [
        ("glm4moe", "<arg_value>3</arg_value>\n</tool_call>"),
        ("qwen3_5_think", "3\n</parameter>\n</function>\n</tool_call><|im_end|>"),
        ("qwen3", '"days": 3}}\n</tool_call><|im_end|>'),
    ],
)
def test_a_call_is_learned_to_its_end_also_where_its_last_argument_is_a_number(template, end):
    tokenizer = small.small_tokenizer(specials=[*small.SPECIALS, "<|observation|>"])
    tokenizer.chat_template = small.packaged_template(template)
    for messages in (BESIDE, [*BESIDE, RESULT, says("No.")]):
        text = spoken(encode(Row(1, messages, tools=TOOLS), tokenizer), tokenizer)
        assert end in text
        assert "tool_response" not in text
        assert "dry" not in text


TEXT = '{"city":"Oslo", "days": 3}'
FORMS = {
    "arguments as the text of the data": (
        "deepseekv3",
        read(
            [
                {
                    "messages": [
                        QUESTION,
                        says(
                            None,
                            tool_calls=[
                                {
                                    "type": "function",
                                    "function": {"name": "rain", "arguments": TEXT},
                                }
                            ],
                        ),
                    ]
                }
            ]
        )[0],
        TEXT,
    ),
    "arguments as a text": ("deepseekv3", Row(1, BESIDE), '{"city": "Oslo", "days": 3}'),
    "arguments as a text, a call without its type": (
        "deepseekv3",
        Row(1, [QUESTION, says("", tool_calls=[CALL["function"]])]),
        '{"city": "Oslo", "days": 3}',
    ),
    "arguments as an object": ("glm4moe", Row(1, BESIDE), "<arg_value>Oslo</arg_value>"),
    "reasoning by another name": ("gptoss", Row(1, THOUGHT), "analysis<|message|>hm<|end|>"),
    "contents as parts": ("llava_next", Row(1, SYSTEM[1:]), "No."),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_one_template_cannot_take_is_put_in_another_form(name):
    template, row, text = FORMS[name]
    tokenizer = with_template(template)
    assert text in spoken(encode(row, tokenizer), tokenizer)


def test_a_prompt_has_the_form_that_the_answer_was_learned_in():
    tokenizer = with_template("deepseekv3")
    row = Row(1, WHOLE, tools=TOOLS)
    ids, answer = prompt(row, tokenizer)
    assert answer == "No."
    assert encode(row, tokenizer).ids[: len(ids)] == ids


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("{{ m.content + {'a': 1} }}", r'can only concatenate str \(not "dict"\) to str'),
        ("{{ {'a': 1} + m.content }}", "unsupported operand"),
        ("{{ m.content + 1 }}", r'can only concatenate str \(not "int"\) to str'),
        ("{{ ' '.join([m.content, 1]) }}", "expected str instance, int found"),
        ("{{ m.content.join([1]) }}", "expected str instance, int found"),
        ("{{ m.content.replace('o', 1) }}", "must be str"),
    ],
)
def test_a_template_fails_where_it_fails_on_plain_texts(expression, reason):
    tokenizer = with_template("{% for m in messages %}" + expression + "{% endfor %}")
    with pytest.raises(TypeError):
        tokenizer.apply_chat_template([says("one")], tokenize=False)
    with pytest.raises(DataError, match="fails on the conversation: .*" + reason):
        encode(Row(1, [says("one")]), tokenizer)


USED = (
    "{% for m in messages %}{{ m.role + m.content }}{{ m.tool_calls | tojson if m.tool_calls }}"
    "<|im_end|>{% endfor %}"
)
PLAIN = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"


@pytest.mark.parametrize("listed", [False, True])
def test_of_several_templates_the_one_of_transformers_is_taken(listed):
    tokenizer = with_template("smollm2")
    named = {"default": PLAIN, "tool_use": USED, "rag": "{{ messages }}"}
    tokenizer.chat_template = (
        [{"name": k, "template": v} for k, v in named.items()] if listed else named
    )
    example = encode(Row(1, BESIDE, tools=TOOLS), tokenizer)
    assert "Oslo" in spoken(example, tokenizer)
    if not listed:
        text = tokenizer.apply_chat_template(BESIDE, tools=TOOLS, tokenize=False)
        assert tokenizer.decode(example.ids) == text
    assert (
        tokenizer.decode(encode(Row(1, SYSTEM[1:]), tokenizer).ids)
        == "Rain?<|im_end|>No.<|im_end|>"
    )


def test_templates_without_a_default_are_named_with_a_way_on():
    tokenizer = with_template("smollm2")
    tokenizer.chat_template = {"rag": PLAIN, "tool_use": USED}
    assert encode(Row(1, BESIDE, tools=TOOLS), tokenizer).ids
    assert encode(Row(1, text="plain"), tokenizer).ids
    with pytest.raises(
        DataError, match=r"has the chat templates rag, tool_use.*chat_template\.jinja"
    ):
        encode(Row(1, THOUGHT), tokenizer)
    report = check([{"messages": THOUGHT}], tokenizer)
    assert [f.kind for f in report.findings if f.severity == "error"] == ["template_refuses"]


def test_every_part_has_its_finding():
    assert {f"dropped_{name}" for name in FINDINGS.values()} | {
        "dropped_context"
    } == LEFT_OUT.keys()
    assert LEFT_OUT.keys() == {kind for kind in KINDS if kind.startswith("dropped_")}


def facts_of(rows, template):
    settings = Settings(held_out=0)
    split = read_and_split(rows, Columns(), settings)
    return encode_rows(split, with_template(template), settings, None).facts


def test_the_plan_says_what_is_left_out_of_how_many_rows():
    rows = [{"messages": m, "tools": TOOLS} for m in (BESIDE, THOUGHT, EARLIER, THOUGHT)]
    facts = facts_of(rows, "smollm2")
    text = left_out(facts)
    assert f"the chat template leaves out {LEFT_OUT['dropped_calls']} in 1 row, line 1" in text
    assert "the chat template leaves out the reasoning of the answer in 2 rows, lines 2, 4" in text
    assert "the chat template leaves out the reasoning of earlier answers in 1 row, line 3" in text
    assert "the chat template leaves out the tools that may be called in 4 rows, lines 1-4" in text


def test_the_plan_says_nothing_where_nothing_is_left_out():
    rows = [{"messages": m} for m in (BESIDE, THOUGHT)]
    assert left_out(facts_of(rows, "qwen3")) == []


def test_the_plan_says_that_several_messages_are_one_answer():
    parts = [QUESTION, says("I look."), {"role": "tool_call", "content": '{"name": "now"}'}]
    facts = facts_of([{"messages": parts}], "qwen3")
    assert "line 1: an answer in several messages is learned as one" in left_out(facts)


def test_a_row_that_no_form_repairs_decides_nothing_for_the_next():
    tokenizer = small.small_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'developer' or m.content == 'no' %}"
        "{{ raise_exception('unfit') }}{% endif %}{{ m.content }}{% endfor %}"
    )
    developer = {"role": "developer", "content": "Be kind."}
    rows = [[{"role": "user", "content": "no"}, says("No.")], [developer, QUESTION, says("No.")]]
    first, second = encoded([Row(1, rows[0]), Row(2, rows[1])], tokenizer)
    assert isinstance(first, Fault)
    assert "unfit" in first.reason
    assert not isinstance(second, Fault)
