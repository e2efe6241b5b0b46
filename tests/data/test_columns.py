"""Columns as data has them: each that says something is read, or named."""

import pytest

from strop.data import Columns, DataError, check, read
from strop.data.preview import row_at


def question_and_answer(row, **more):
    """Return the question and the answer of a row read alone."""
    messages = read([row], **more)[0].messages
    return messages[-2]["content"], messages[-1]["content"]


BESIDE = {
    "context of a question": (
        {"question": "Who won?", "context": "Five won.", "answer": "Five"},
        ("Who won?\n\nFive won.", "Five"),
    ),
    "context of a prompt": (
        {"prompt": "Who won?", "context": "Five won.", "response": "Five"},
        ("Who won?\n\nFive won.", "Five"),
    ),
    "input of a prompt": (
        {"prompt": "Translate.", "input": "Hund", "completion": "dog"},
        ("Translate.\n\nHund", "dog"),
    ),
    "input and context": (
        {"instruction": "Translate.", "input": "Hund", "context": "Pets.", "output": "dog"},
        ("Translate.\n\nHund\n\nPets.", "dog"),
    ),
    "passages as a list": (
        {"query": "Who won?", "passages": ["Five won.", "It rained."], "answer": "Five"},
        ("Who won?\n\nFive won.\n\nIt rained.", "Five"),
    ),
    "an output to a prompt": ({"prompt": "2 + 2", "output": "4"}, ("2 + 2", "4")),
    "SQuAD": (
        {"question": "Who?", "context": "Ada.", "answers": {"text": ["Ada"], "answer_start": [0]}},
        ("Who?\n\nAda.", "Ada"),
    ),
    "a summary": ({"article": "A long day.", "highlights": "Day."}, ("A long day.", "Day.")),
    "a text and its completion": ({"text": "Once", "completion": "upon"}, ("Once", "upon")),
    "an input and its target": ({"input": "Hund", "target": "dog"}, ("Hund", "dog")),
    "names in capitals": (
        {"Question": "Who?", "Context": "Ada.", "Answer": "Ada"},
        ("Who?\n\nAda.", "Ada"),
    ),
}


@pytest.mark.parametrize(("row", "expected"), BESIDE.values(), ids=BESIDE)
def test_context_beside_a_question_follows_it(row, expected):
    assert question_and_answer(row) == expected
    assert not [f for f in check([row, row]).findings if f.kind == "unread_content"]


MEDICAL = {"Question": "Why?", "Complex_CoT": "Hm, because.", "Response": "So."}
THOUGHT = {
    "Complex_CoT": MEDICAL,
    "reasoning": {"prompt": "Why?", "reasoning": "Hm, because.", "completion": "So."},
    "rationale": {"question": "Why?", "rationale": "Hm, because.", "answer": "So."},
    "cot": {"instruction": "Why?", "cot": "Hm, because.", "output": "So."},
}


@pytest.mark.parametrize("row", THOUGHT.values(), ids=THOUGHT)
def test_reasoning_in_a_column_is_the_reasoning_of_the_answer(row):
    assert read([row])[0].messages == [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So.", "reasoning_content": "Hm, because."},
    ]


LETTERED = "Which?\n\nA. sun\nB. moon"
CHOICES = {
    "the number of a choice": (["sun", "moon"], 1, "B"),
    "the number as a text": (["sun", "moon"], "0", "A"),
    "the letter": (["sun", "moon"], "B", "B"),
    "the choice itself": (["sun", "moon"], "moon", "moon"),
    "choices by letters": ({"A": "sun", "B": "moon"}, "A", "A"),
    "texts and labels": ({"text": ["sun", "moon"], "label": ["A", "B"]}, "B", "B"),
    "choices as JSON in a table": ('["sun", "moon"]', "1", "B"),
}


@pytest.mark.parametrize(("choices", "answer", "letter"), CHOICES.values(), ids=CHOICES)
def test_choices_are_written_with_letters(choices, answer, letter):
    row = {"question": "Which?", "choices": choices, "answer": answer}
    assert question_and_answer(row) == (LETTERED, letter)


def test_numbers_that_are_choices_are_no_places():
    row = {"question": "2 + 1?", "options": [1, 2, 3], "answerKey": 3}
    assert question_and_answer(row) == ("2 + 1?\n\nA. 1\nB. 2\nC. 3", "3")
    with pytest.raises(DataError, match="line 1: answer is 4, and the choices are 0 to 1"):
        read([{"question": "a?", "choices": ["x", "y"], "answer": 4}])


LABELLED = {
    "text and label": ({"text": "good film", "label": "pos"}, {"text": "bad", "label": "neg"}),
    "text and category": (
        {"text": "good film", "category": "pos"},
        {"text": "bad", "category": "neg"},
    ),
    "content and category": (
        {"content": "good film", "category": "pos"},
        {"content": "bad", "category": "neg"},
    ),
    "sentence and label": (
        {"sentence": "good film", "label": "pos"},
        {"sentence": "bad", "label": "neg"},
    ),
    "headline and sentiment": (
        {"Headline": "good film", "Sentiment": "pos"},
        {"Headline": "bad", "Sentiment": "neg"},
    ),
    "label_text beside its number": (
        {"text": "good film", "label": 1, "label_text": "pos"},
        {"text": "bad", "label": 0, "label_text": "neg"},
    ),
}


@pytest.mark.parametrize("rows", LABELLED.values(), ids=LABELLED)
def test_texts_with_labels_become_questions_that_name_the_labels(rows):
    labelled = read([*rows, *rows])
    assert labelled.format == "classification"
    assert labelled.instruction == "Classify the text as one of: neg, pos."
    assert labelled[0].messages == [
        {"role": "user", "content": "Classify the text as one of: neg, pos.\n\ngood film"},
        {"role": "assistant", "content": "pos"},
    ]
    assert not labelled.unread


def test_labels_that_are_numbers_stand_in_their_order():
    rows = [{"text": f"t{i}", "label": i % 11} for i in range(22)]
    assert (
        read(rows).instruction == "Classify the text as one of: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10."
    )
    assert read(rows)[10].messages[-1]["content"] == "10"


def test_pairs_of_texts_are_classified_together():
    rows = [
        {"premise": "It rains.", "hypothesis": "It is wet.", "label": "yes"},
        {"premise": "It rains.", "hypothesis": "It is dry.", "label": "no"},
    ]
    assert question_and_answer(rows[0], instruction="Does it follow?") == (
        "Does it follow?\n\npremise: It rains.\nhypothesis: It is wet.",
        "yes",
    )
    assert read(rows).instruction == "Classify the texts as one of: no, yes."


def test_another_instruction_or_none_stands_before_the_texts():
    row = {"text": "good film", "label": "pos"}
    assert question_and_answer(row, instruction="Good?")[0] == "Good?\n\ngood film"
    assert question_and_answer(row, instruction="")[0] == "good film"
    assert question_and_answer({**row, "instruction": "Mood?"})[0] == "Mood?\n\ngood film"
    assert question_and_answer(row, mapping={"text": "prompt", "label": "completion"}) == (
        "good film",
        "pos",
    )
    with pytest.raises(DataError, match="--instruction 'Good\\?' stands before texts with labels"):
        read([{"prompt": "a", "completion": "b"}], instruction="Good?")


def test_many_or_long_labels_are_not_listed():
    many = [{"text": f"t{i}", "label": f"kind {i % 60}"} for i in range(120)]
    assert read(many).instruction == "Classify the text."
    long = [{"text": f"t{i}", "label": "the whole story " * (i + 5)} for i in range(4)]
    assert read(long).format == "prompt_completion"
    with pytest.raises(DataError, match="line 2: label is empty, so the row has no label"):
        read([{"text": "a", "label": "x"}, {"text": "b", "label": None}])


def test_a_target_that_repeats_is_a_label_and_else_an_answer():
    repeated = [{"text": f"t{i}", "target": "ab"[i % 2]} for i in range(4)]
    assert read(repeated).format == "classification"
    assert (
        read([{"text": f"t{i}", "target": f"u{i}"} for i in range(4)]).format == "prompt_completion"
    )


HISTORY = [["Capital of Peru?", "Lima"]]
BEFORE = [
    {"role": "user", "content": "Capital of Peru?"},
    {"role": "assistant", "content": "Lima"},
]
NOW = {"role": "user", "content": "And of Chile?"}
WITH_HISTORY = {
    "pairs": {"prompt": "And of Chile?", "chosen": "Santiago", "rejected": "Lima"},
    "messages": {"messages": [NOW, {"role": "assistant", "content": "Santiago"}]},
    "a list of prompts": {"prompt": [NOW], "completion": "Santiago"},
    "an instruction": {"instruction": "And of Chile?", "output": "Santiago"},
    "kto": {"instruction": "And of Chile?", "output": "Santiago", "kto_tag": True},
}


@pytest.mark.parametrize("row", WITH_HISTORY.values(), ids=WITH_HISTORY)
def test_history_stands_before_the_question(row):
    answer = {"role": "assistant", "content": "Santiago"}
    for history in (HISTORY, BEFORE):
        first = read([{**row, "history": history, "system": "Short."}])[0]
        assert first.messages == [{"role": "system", "content": "Short."}, *BEFORE, NOW, answer]


def test_preference_and_kto_as_llama_factory_lays_them_out():
    question = "Translate.\n\ncat"
    pair = {"instruction": "Translate.", "input": "cat", "chosen": "Katze", "rejected": "Hund"}
    row = read([pair])[0]
    assert [m["content"] for m in row.messages] == [question, "Katze"]
    assert [m["content"] for m in row.rejected] == [question, "Hund"]
    marked = [
        {"instruction": "Translate.", "input": "cat", "output": a, "kto_tag": a == "Katze"}
        for a in ("Katze", "Hund")
    ]
    rows = read(marked)
    assert rows.format == "kto"
    assert [(r.messages[0]["content"], r.label) for r in rows] == [
        (question, True),
        (question, False),
    ]
    chat = [{"from": "human", "value": "cat"}, {"from": "gpt", "value": "Hund"}]
    assert read([{"conversations": chat, "kto_tag": 0}])[0].label is False


CLASSES = {
    "numbers": [0, 1, 0, 1],
    "numbers in a table": ["0", "1", "0", "1"],
    "words": ["good", "bad", "good", "bad"],
    "more classes": [0, 1, 2, 3],
}


@pytest.mark.parametrize("labels", CLASSES.values(), ids=CLASSES)
def test_a_class_beside_an_answer_is_no_mark_of_kto(labels):
    rows = read([{"prompt": f"p{i}", "completion": "c", "label": x} for i, x in enumerate(labels)])
    assert rows.format == "prompt_completion"
    assert [row.label for row in rows] == [None] * 4
    assert rows.unread == {"label": str(labels[0])}


WRITTEN = {"1": "1", "1.0": "1.0", "true": "true", "0.10": "0.10", "1e5": "1e5", "-3": "-3"}


@pytest.mark.parametrize(("text", "answer"), WRITTEN.items(), ids=WRITTEN)
def test_numbers_and_truth_values_are_answers_as_they_are_written(text, answer, tmp_path, jsonl):
    row = f'{{"prompt": "why?", "completion": {text}}}'
    (tmp_path / "a.json").write_text(f"[{row}, {row}]", encoding="utf-8")
    for source in (jsonl(row, row), tmp_path / "a.json"):
        rows = read(source)
        assert rows[1].messages[-1]["content"] == answer
        assert f"such as {answer}" in rows.notes[0]
    notes = [f.message for f in check(jsonl(row, row)).findings if f.kind == "columns_understood"]
    assert notes == list(rows.notes)


def test_cells_that_hold_nothing_are_named_by_row():
    rows = [{"prompt": "a", "completion": x} for x in ("b", None, float("nan"), "")]
    with pytest.raises(DataError) as caught:
        read(rows)
    assert [(f.line, f.reason) for f in caught.value.faults] == [
        (2, "completion is null, not a text"),
        (3, "completion is NaN, which stands for nothing, not a text"),
        (4, "completion is empty"),
    ]


CONTENT = {
    "sentences": ["It rains.", "The sun shines.", "Snow falls."],
    "words": ["open_qa", "summary", "open_qa"],
    "lists of texts": [["a b"], ["c d"], ["e f"]],
    "truth values": [True, False, True],
    "objects": [{"text": "a b"}, {"text": "c d"}, {"text": "e f"}],
    "another alphabet": ["猫が好き", "犬が好き", "鳥"],
}
BOOKKEEPING = {
    "numbers": [1, 2, 3],
    "ids": ["row-1", "row-2", "row-3"],
    "addresses": ["https://a.org/x", "https://a.org/y", "http://b.org"],
    "dates": ["2024-01-05", "2024-01-06 10:00:00", "Jan 7, 2024"],
    "hashes": ["d41d8cd98f00b204", "e9800998ecf8427e", "0cc175b9c0f1b6a8"],
    "one value": ["the same for all"] * 3,
    "nothing": [None, "", None],
    "numbers in lists": [[0.1], [0.2], [0.3]],
}


def with_notes(values):
    return [{"prompt": f"p {i}", "completion": "c", "notes": v} for i, v in enumerate(values)]


@pytest.mark.parametrize("values", CONTENT.values(), ids=CONTENT)
def test_a_column_with_content_that_is_not_read_is_named(values):
    rows = with_notes(values)
    assert list(read(rows).unread) == ["notes"]
    findings = {f.kind: f for f in check(rows).findings}
    assert findings["unread_content"].severity == "error"
    assert "--ignore-columns" in findings["unread_content"].remedy
    columns = Columns(ignored=("Notes",))
    assert "unread_content" not in {f.kind for f in check(rows, columns=columns).findings}


@pytest.mark.parametrize("values", BOOKKEEPING.values(), ids=BOOKKEEPING)
def test_a_column_that_numbers_or_dates_rows_is_no_content(values):
    rows = with_notes(values)
    assert not read(rows).unread
    assert "unused_columns" in {f.kind for f in check(rows).findings}


def test_columns_are_named_in_any_case_and_the_way_on_is_a_flag(tmp_path):
    rows = [{"Headline": "a", "Label ": "b"}, {"Headline": "c", "Label ": "d"}]
    mapped = read(rows, mapping={"headline": "prompt", "label": "completion"})
    assert mapped[0].messages[-1]["content"] == "b"
    with pytest.raises(DataError, match="--map ask=prompt,reply=completion"):
        read([{"ask": "a", "say": "b"}])
    with pytest.raises(DataError, match=r"has no column 'nots' to ignore.*did you mean notes"):
        read(with_notes(["a b", "c d"]), ignore_columns=["nots"])
    (tmp_path / "a.csv").write_text("prompt,completion\np,c\nq,d\n", encoding="utf-8")
    assert row_at(tmp_path / "a.csv").messages[0]["content"] == "p"
    with pytest.raises(DataError, match="no row at line 1; its rows stand at 2 to 3"):
        row_at(tmp_path / "a.csv", 1)


def test_pairs_are_reported_as_teaching_the_chosen_answer_alone(jsonl):
    path = jsonl({"prompt": "a", "chosen": "b", "rejected": "c"})
    assert [f.kind for f in check(path).findings] == ["preference_pairs"]


@pytest.mark.parametrize(
    ("text", "proposed"),
    [
        ("id,Verdict,Headline\n1,up,Shares rose on Monday\n2,down,Shares fell again\n"
         "3,up,Rates rose on Friday\n4,down,Bonds fell today\n", "headline=prompt,Verdict=completion"),
        ("Frage,Antwort\nWas ist das?,Ein Haus.\nWo ist es?,Es ist hier.\n",
         "Frage=prompt,Antwort=completion"),
        ("the body,n\nsome text here,1\nmore text there,2\n", "'the body=text'"),
        ("n,m\n1,2\n3,4\n", "ask=prompt,reply=completion"),
    ],
)  # fmt: skip
def test_columns_of_no_known_format_are_refused_with_the_map_to_type(text, proposed, tmp_path):
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(DataError) as refusal:
        read(tmp_path / "rows.csv")
    assert str(refusal.value).endswith(f"--map {proposed}")
