"""Measures of answers with and without documents."""

import pytest

from strop.retrieval.comparison import measures
from strop.retrieval.prompts import REFUSAL, Shown, parsed, quoting
from strop.retrieval.raft.questions import QuestionAnswer

SHOWN = [Shown("Bicycles stand in the yard.", "a"), Shown("Leave is 30 days a year.", "b")]
ASKED = QuestionAnswer(1, "How long is leave?", ("30 days", "thirty days"))


def measured(text, shown=SHOWN, pair=ASKED):
    return measures(pair, parsed(text, shown), shown)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (quoting("30 days", SHOWN[1].text, 2), (1, 1, 1, 0, 1, 0)),
        ("30 days [1]", (0, 1, 0.8, 0, 0, 1)),
        ("Leave is 30 days a year.", (0, 1, 4 / 7, 0, 0, 0)),
        ("40 days", (0, 0, 0.5, 0, 0, 1)),
        (REFUSAL, (0, 0, 0, 1, 0, 0)),
    ],
)
def test_an_answer_about_documents_is_measured(text, expected):
    names = ("exact_match", "contains", "token_f1", "refused", "cited", "hallucinated")
    scores = measured(text)
    assert [scores[name] for name in names] == pytest.approx(expected)


def test_without_documents_nothing_is_said_of_citations():
    assert set(measured("30 days", [])) == {"exact_match", "contains", "token_f1", "refused"}


def test_a_question_without_an_answer_is_right_where_it_is_refused():
    pair = QuestionAnswer(1, "How long is a mile?", ())
    assert measured(REFUSAL, pair=pair)["exact_match"] == 1
    assert measured("1.6 km", pair=pair)["exact_match"] == 0
