"""Measures of answers with and without documents."""

from xml.etree import ElementTree

import pytest

from strop.retrieval.comparison import draw_arms, measures
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


def test_arms_are_drawn_with_their_numbers_as_text(tmp_path):
    arms = {
        name: {"contains": {"value": value, "low": value - 0.1, "high": value + 0.1}}
        for name, value in (("base", 0.2), ("base + works", 0.7))
    }
    draw_arms(tmp_path / "arms.svg", {"rows": 40, "arms": arms})
    svg = ElementTree.fromstring((tmp_path / "arms.svg").read_text())
    assert svg.get("aria-label") == "Right answers to 40 questions: base 20 %; base + works 70 %"
    assert len(svg.findall("{http://www.w3.org/2000/svg}circle")) == 2
