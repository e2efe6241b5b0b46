"""Shapes that common data sets of the hub have, each read as what it says."""

import json

import pytest

from strop.data import DataError, read


def contents(row):
    return [(m["role"], m["content"]) for m in row.messages]


def test_transcripts_of_hh_rlhf_are_read_as_turns():
    transcript = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\nNow?\n\nAssistant: "
    (row,) = read([{"chosen": transcript + "So.", "rejected": transcript + "No."}])
    assert contents(row) == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Why?\nNow?"),
        ("assistant", "So."),
    ]
    assert row.rejected[-1]["content"] == "No."


@pytest.mark.parametrize("text", ["So.", "\n\nAssistant: So.", "\n\nHuman: Hi", "a\n\nHuman: Hi"])
def test_pairs_without_a_question_are_refused_with_both_ways_out(text):
    with pytest.raises(DataError, match="add a column prompt, or begin both with Human:"):
        read([{"chosen": text, "rejected": text + "!"}])


def test_texts_in_a_list_are_the_turns_of_user_and_assistant():
    (row,) = read([{"conversations": ["Hi", "Hello", "Why?", "So."], "source": "web"}])
    assert contents(row) == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Why?"),
        ("assistant", "So."),
    ]


RAIN = {"name": "rain", "description": "", "parameters": {"city": {"type": "str"}}}
CALLS = [{"name": "rain", "arguments": {"city": "Oslo"}}]
TOOLS = {
    "as text (xLAM)": json.dumps([RAIN]),
    "as a list": [RAIN],
    "as functions": [{"type": "function", "function": RAIN}],
}


@pytest.mark.parametrize("answer", [json.dumps(CALLS), CALLS, CALLS[0]], ids=str)
@pytest.mark.parametrize("tools", TOOLS.values(), ids=TOOLS)
def test_answers_that_call_the_rows_tools_are_tool_calls(answer, tools):
    (row,) = read([{"query": "Rain in Oslo?", "answers": answer, "tools": tools}])
    (call,) = row.messages[-1]["tool_calls"]
    assert call["function"] == CALLS[0]
    assert row.messages[-1]["content"] == ""


@pytest.mark.parametrize(
    ("answer", "tools"),
    [
        (json.dumps(CALLS), None),
        (json.dumps(CALLS), [{**RAIN, "name": "snow"}]),
        ('[{"name": "rain"}]', [RAIN]),
        ('[{"name": "rain", "arguments": {}, "city": "Oslo"}]', [RAIN]),
        ("[rain]", [RAIN]),
        ("[]", [RAIN]),
    ],
)
def test_answers_that_are_no_calls_of_the_rows_tools_stay_texts(answer, tools):
    (row,) = read([{"query": "Rain in Oslo?", "answers": answer, "tools": tools}])
    assert row.messages[-1] == {"role": "assistant", "content": answer}


CHOICES = {
    "WinoGrande": {"sentence": "Which?", "option1": "sun", "option2": "moon", "answer": "2"},
    "PIQA": {"goal": "Which?", "sol1": "sun", "sol2": "moon", "label": 1},
    "HellaSwag": {"ctx": "Which?", "endings": ["sun", "moon"], "label": "1"},
    "OpenBookQA": {
        "question_stem": "Which?",
        "choices": {"text": ["sun", "moon"], "label": ["A", "B"]},
        "answerKey": "B",
    },
}


@pytest.mark.parametrize("name", CHOICES)
def test_choices_stand_behind_questions_by_other_names(name):
    row = CHOICES[name]
    rows = read([row, {**row, "label": 0}] if name == "PIQA" else [row, row])
    assert contents(rows[0]) == [("user", "Which?\n\nA. sun\nB. moon"), ("assistant", "B")]
    assert not rows.unread


@pytest.mark.parametrize("dialogue", ["dialogue", "dialog", "conversation", "transcript"])
def test_a_dialogue_with_a_summary_is_a_question_with_an_answer(dialogue):
    rows = read([{"id": "1", dialogue: "Amy: Hi\r\nBob: Hello", "summary": "Amy greets Bob."}])
    assert contents(rows[0]) == [
        ("user", "Amy: Hi\r\nBob: Hello"),
        ("assistant", "Amy greets Bob."),
    ]
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    for turns in (chat, json.dumps(chat)):
        if dialogue != "transcript":
            rows = read([{dialogue: turns, "summary": "A short talk."}])
            assert (rows.format, list(rows.unread)) == ("conversations", ["summary"])


@pytest.mark.parametrize("column", ["stars", "rating"])
def test_ratings_label_texts_and_are_notes_beside_answers(column):
    rows = read([{column: n % 3, "text": f"Meal {n} came."} for n in range(9)])
    assert rows.format == "classification"
    assert contents(rows[1])[1] == ("assistant", "1")
    rows = read([{column: n, "prompt": f"Q{n}", "response": f"A{n}"} for n in range(9)])
    assert (rows.format, rows.unread) == ("prompt_completion", {})


@pytest.mark.parametrize("column", ["text", "content"])
def test_one_message_a_row_is_refused_until_the_roles_are_ignored(column):
    rows = [{"role": r, column: f"Say {n}"} for n, r in enumerate(["prompter", "assistant"] * 3)]
    with pytest.raises(DataError, match=r"one message a row .* --ignore-columns role"):
        read(rows)
    assert read(rows, ignore_columns=["role"]).format == "text"
    jobs = [{**row, "role": f"cook {n}"} for n, row in enumerate(rows)]
    assert list(read(jobs).unread) == ["role"]


def test_an_answer_that_is_an_object_of_other_fields_is_called_so():
    with pytest.raises(DataError, match="answer is an object, not a text"):
        read([{"question": "Who?", "answer": {"value": "Tom", "aliases": ["Thomas"]}}])
