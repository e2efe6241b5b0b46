"""Choices in columns of their own, and lists as Python writes them in the cells of tables."""

import pytest

from strop.data import DataError, read

LETTERED = "Which?\n\nA. sun\nB. moon"


def question_and_answer(row):
    """Return the question and the answer of a row read alone."""
    question, answer = read([row])[0].messages
    return question["content"], answer["content"]


COLUMNS = {
    "letters": (("A", "B"), "B", "B"),
    "small letters": (("a", "b"), "b", "B"),
    "options by letters": (("option_a", "option_b"), "B", "B"),
    "MedMCQA": (("opa", "opb"), 1, "B"),
    "an index": (("A", "B"), 0, "A"),
    "an index in a table": (("Option A", "Option B"), "1", "B"),
    "the text": (("choice1", "choice2"), "moon", "moon"),
    "numbers from 1": (("choice1", "choice2"), "1", "A"),
    "numbers from 0": (("choice0", "choice1"), 1, "B"),
    "choices numbered from 1, answers from 0": (("choice1", "choice2"), 0, "A"),
    "letters, answers from 1": (("A", "B"), 2, "B"),
    "the name of the column": (("optionA", "optionB"), "optionb", "B"),
}


@pytest.mark.parametrize(("names", "answer", "letter"), COLUMNS.values(), ids=COLUMNS)
def test_choices_in_one_column_each_are_read_as_a_list(names, answer, letter):
    row = {"question": "Which?", **dict(zip(names, ("sun", "moon"), strict=True)), "answer": answer}
    assert question_and_answer(row) == (LETTERED, letter)
    rows = read([row, row])
    assert rows.format == "multiple_choice"
    assert rows.notes[0].startswith(f"{names[0]}, {names[1]} are the choices of the question")
    assert not rows.unread


def test_choices_in_columns_are_counted_alike_in_all_rows_and_empty_ones_left_out():
    cells = {"choice1": "sun", "choice2": "moon", "choice3": "star"}
    rows = read([{"prompt": "Which?", **cells, "label": n} for n in (2, 0, 1)])
    assert [row.messages[-1]["content"] for row in rows] == ["C", "A", "B"]
    assert any("counted from 0" in note for note in rows.notes)
    row = {"prompt": "Which?", **cells, "choice3": "", "label": 2}
    assert question_and_answer(row) == (LETTERED, "B")
    with pytest.raises(DataError, match="label is 9, and the choices that the row has are 1 to 3"):
        read([{"prompt": "Which?", **cells, "label": 9}])
    with pytest.raises(DataError, match="label is 1, and the choices that the row has are 0 to 2"):
        read([{"prompt": "Which?", **cells, "choice2": None, "label": n} for n in (0, 1)])
    plain = read([{"A": "a b", "B": "c d"}], mapping={"A": "prompt", "B": "completion"})
    assert plain.format == "prompt_completion"


PYTHON = {
    "a list": ("['sun', 'moon']", "B"),
    "both quotes": ("""['sun', "moon"]""", "moon"),
    "texts and labels": ("{'text': ['sun', 'moon'], 'label': ['A', 'B']}", "B"),
    "by letters": ("{'A': 'sun', 'B': 'moon'}", "A"),
}


@pytest.mark.parametrize(("cell", "answer"), PYTHON.values(), ids=PYTHON)
def test_lists_as_python_writes_them_are_read_in_tables(cell, answer):
    assert question_and_answer({"question": "Which?", "choices": cell, "answer": answer}) == (
        LETTERED,
        answer,
    )


NEITHER = (
    "['sun' 'moon']",
    "['sun'\n 'moon']",
    "[sun, moon]",
    "['sun', '\\alpha']",
    "['sun', open('x')]",
    "[" * 9999,
)


@pytest.mark.parametrize("cell", NEITHER, ids=range(len(NEITHER)))
def test_what_is_neither_json_nor_python_is_a_fault_of_its_row(cell):
    with pytest.raises(DataError, match="line 1: choices is neither JSON nor a Python list"):
        read([{"question": "Which?", "choices": cell, "answer": "A"}])


def test_messages_and_answers_as_python_writes_them_are_read_in_tables():
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "It's Ada"}]
    row = {"messages": str(turns)}
    assert read([row])[0].messages == turns
