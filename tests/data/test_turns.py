import datasets
import pytest
from tokenizers import processors

from strop.data import DataError, check, encode, read
from tests.data import small

QUESTION = {"role": "user", "content": "Rain?"}
CALL = {"type": "function", "function": {"name": "rain", "arguments": {"city": "Oslo"}}}
SPOKEN = '{"name": "rain", "arguments": {"city": "Oslo"}}'


def messages_of(*answers, **columns):
    return read([{"messages": [QUESTION, *answers], **columns}])[0].messages[1:]


def says(content, **more):
    return {"role": "assistant", "content": content, **more}


@pytest.mark.parametrize("none", [[], "", None, "[]", {}, "null", " [ ] "], ids=repr)
@pytest.mark.parametrize("key", ["tool_calls", "function_call"])
def test_an_empty_form_of_calls_means_none(key, none):
    assert messages_of(says("No.", **{key: none})) == [says("No.")]


@pytest.mark.parametrize("none", [[], "", None, "[]", {}, "{}", "null", [{}], [None]], ids=repr)
@pytest.mark.parametrize("key", ["tools", "functions"])
def test_an_empty_form_of_tools_means_none(key, none):
    assert read([{"messages": [QUESTION, says("No.")], key: none}])[0].tools is None


def test_a_refusal_stands_for_the_content_and_beside_one_is_a_fault():
    assert messages_of(says(None, refusal="I cannot.")) == [says("I cannot.")]
    assert messages_of(says("No.", refusal=None)) == [says("No.")]
    with pytest.raises(DataError, match="both a content and a refusal"):
        messages_of(says("No.", refusal="I cannot."))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"rain": None, "Ort": "Ålesund"}, '{"rain": null, "Ort": "Ålesund"}'),
        ([1, 2], "[1, 2]"),
        ([{"day": 1}], '[{"day": 1}]'),
        (3.5, "3.5"),
        (False, "false"),
        ([{"type": "text", "text": "dry"}], "dry"),
    ],
)
def test_a_tool_result_may_be_any_value(content, text):
    result = messages_of(says("", tool_calls=[CALL]), {"role": "tool", "content": content})[-1]
    assert result["content"] == text


@pytest.mark.parametrize("content", [None, [{"type": "image_url", "image_url": {}}]])
def test_a_tool_result_that_is_no_text_is_refused(content):
    with pytest.raises(DataError, match=r"only texts can be learned|is null"):
        messages_of(says("", tool_calls=[CALL]), {"role": "tool", "content": content})


BOTH = [CALL, CALL]
ONE_TURN = {
    "words, call, call": (
        [says("Let me look."), *[{"role": "tool_call", "content": SPOKEN}] * 2],
        says("Let me look.", tool_calls=BOTH),
    ),
    "thought, call": (
        [says("", reasoning_content="hm"), says(None, tool_calls=[CALL])],
        says("", reasoning_content="hm", tool_calls=[CALL]),
    ),
    "thought, words": ([says("", thinking="hm"), says("No.")], says("No.", reasoning_content="hm")),
    "thought in the words, call": (
        [says("<think>hm</think>"), {"role": "function_call", "content": SPOKEN}],
        says("<think>hm</think>", tool_calls=[CALL]),
    ),
    "two thoughts, words, call": (
        [
            says("", reasoning="a"),
            says("b", reasoning="c"),
            says("", function_call=CALL["function"]),
        ],
        says("b", reasoning_content="a\n\nc", tool_calls=[CALL]),
    ),
}


@pytest.mark.parametrize("name", ONE_TURN)
def test_an_answer_in_several_messages_is_one_turn(name):
    parts, whole = ONE_TURN[name]
    assert messages_of(*parts) == [whole]
    report = check([{"messages": [QUESTION, *parts]}])
    lines = {f.kind: f.rows for f in report.findings}
    assert lines["merged_turns"] == [1]
    assert "roles_out_of_order" not in lines


@pytest.mark.parametrize(
    "answers",
    [
        [says("a"), says("b")],
        [says("", tool_calls=[CALL]), says("b")],
        [says("a"), says("", tool_calls=[CALL], reasoning_content="c")],
        [says("a", name="one"), says("", tool_calls=[CALL], name="two")],
    ],
)
def test_answers_that_are_no_one_turn_stay_apart(answers):
    assert messages_of(*answers) == answers
    assert "roles_out_of_order" in {
        f.kind for f in check([{"messages": [QUESTION, *answers]}]).findings
    }


def test_messages_of_different_weight_stay_apart():
    answers = [says("a", weight=0), says("", tool_calls=[CALL], weight=1)]
    row = read([{"messages": [QUESTION, *answers]}])[0]
    assert len(row.messages) == 3
    assert row.weights == (1, 0, 1)


def test_a_call_in_a_separate_message_ends_no_turn():
    tokenizer = small.small_tokenizer()
    tokenizer.chat_template = small.packaged_template("qwen3")
    call = {"role": "tool_call", "content": SPOKEN}
    example = encode(read([{"messages": [QUESTION, says("I look."), call, call]}])[0], tokenizer)
    supervised = tokenizer.decode([i for i in example.labels if i >= 0])
    assert supervised.count("<|im_end|>") == 1
    assert supervised.count("<tool_call>") == 2


@pytest.mark.parametrize(
    "arguments", [{"city": None}, {"at": {"city": None}}, {"at": [{"a": None}]}]
)
def test_a_null_argument_in_a_json_column_stays(arguments):
    rows = [
        {"messages": [QUESTION, says("", tool_calls=[{"function": {"name": "f", "arguments": a}}])]}
        for a in ({"day": 3}, arguments)
    ]
    json = datasets.Json()
    features = {
        "whole": {"messages": datasets.List(json)},
        "arguments": {
            "messages": datasets.List(
                {
                    "role": datasets.Value("string"),
                    "content": datasets.Value("string"),
                    "tool_calls": datasets.List(
                        {"function": {"name": datasets.Value("string"), "arguments": json}}
                    ),
                }
            )
        },
    }
    for columns in features.values():
        loaded = datasets.Dataset.from_list(rows, features=datasets.Features(columns))
        actual = read(loaded)[1].messages[1]["tool_calls"][0]["function"]["arguments"]
        assert actual == arguments


def test_a_null_that_arrow_put_into_an_argument_is_taken_out():
    rows = [
        {"messages": [QUESTION, says("", tool_calls=[{"function": {"name": "f", "arguments": a}}])]}
        for a in ({"day": 3}, {"city": "Oslo"})
    ]
    columns = {
        "messages": datasets.List(
            {
                "role": datasets.Value("string"),
                "content": datasets.Value("string"),
                "tool_calls": datasets.List(
                    {
                        "function": {
                            "name": datasets.Value("string"),
                            "arguments": {
                                "day": datasets.Value("int64"),
                                "city": datasets.Value("string"),
                            },
                        }
                    }
                ),
            }
        )
    }
    loaded = datasets.Dataset.from_list(rows, features=datasets.Features(columns))
    call = read(loaded)[1].messages[1]["tool_calls"][0]
    assert call["function"]["arguments"] == {"city": "Oslo"}


@pytest.mark.parametrize("text", ["hello", "<s>hello"])
def test_a_text_that_brings_its_begin_token_gets_no_other(text):
    tokenizer = small.small_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    example = encode(read([{"text": text}])[0], tokenizer)
    assert example == encode(read([{"text": "hello"}])[0], tokenizer)
    assert example.ids.count(tokenizer.bos_token_id) == 1
    assert example.labels[0] == -100
    kinds = {f.kind for f in check([{"text": text}], tokenizer).findings}
    assert "double_begin" not in kinds


def test_a_system_column_beside_a_system_message_of_another_text_is_refused():
    messages = [{"role": "system", "content": "Be kind."}, QUESTION, says("No.")]
    same = read([{"messages": messages, "system": "Be kind. "}])
    assert [m["role"] for m in same[0].messages] == ["system", "user", "assistant"]
    with pytest.raises(DataError, match=r"a system column has another text.*--ignore-columns"):
        read([{"messages": messages, "system": "Be brief."}])
    ignored = read([{"messages": messages, "system": "Be brief."}], ignore_columns=["system"])
    assert ignored[0].messages[0]["content"] == "Be kind."


def test_reading_leaves_the_tool_calls_of_the_data_as_they_are():
    call = {"function": {"name": "f", "arguments": {}}}
    part = {"type": "tool_call", "value": '{"name": "g", "arguments": {}}'}
    rows = [{"messages": [QUESTION, says([part], tool_calls=[call])]}]
    for _ in range(2):
        calls = read(rows)[0].messages[1]["tool_calls"]
        assert [c["function"]["name"] for c in calls] == ["f", "g"]


def test_reasoning_in_a_message_and_in_a_column_is_refused():
    answer = [says("No.", reasoning_content="hm")]
    assert (
        read([{"prompt": "Rain?", "completion": answer}])[0].messages[1]["reasoning_content"]
        == "hm"
    )
    with pytest.raises(DataError, match="reasoning in its message and in a column"):
        read([{"prompt": "Rain?", "completion": answer, "reasoning": "dry"}])
