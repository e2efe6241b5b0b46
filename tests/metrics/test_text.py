import pytest
import torch

from strop.metrics import text
from strop.metrics.json_answers import json_fields, json_valid

SAME = [
    "Shares rose.",
    "Привет, мир!",
    "我爱北京",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "안녕 세상",
    "مرحبا بالعالم",
]


def chrf(answer, reference):
    counts = torch.tensor([text.chrf_counts(answer, reference)], dtype=torch.float64)
    return text.chrf(counts).item()


@pytest.mark.parametrize("answer", SAME)
def test_an_answer_equal_to_the_right_one_has_every_score_in_every_script(answer):
    for measure in (text.exact_match, text.token_f1, text.rouge_l, text.contains, chrf):
        assert measure(answer, answer) == pytest.approx(1)


@pytest.mark.parametrize("answer", SAME)
def test_half_an_answer_has_half_a_score_in_every_script(answer):
    half = answer[: len(answer) // 2 + 1]
    for measure in (text.token_f1, text.rouge_l, chrf):
        assert 0.1 < measure(half, answer) < 1
    assert text.exact_match(half, answer) == 0


def test_scores_are_those_of_the_libraries():
    # sacrebleu 2.5 CHRF().sentence_score; rouge-score 0.1 rougeL fmeasure
    answer, reference = "The cat sat on the mat.", "A cat sat on a mat"
    assert 100 * chrf(answer, reference) == pytest.approx(54.181970344350205, abs=1e-9)
    assert text.rouge_l(answer, reference) == pytest.approx(4 / 6)
    assert text.token_f1(answer, reference) == 1  # SQuAD leaves articles out


def test_chrf_of_many_answers_sums_their_counts():
    pairs = [("ab", "abcdefg"), ("短い文", "短い文です"), ("x", "")]
    counts = torch.tensor([text.chrf_counts(*pair) for pair in pairs], dtype=torch.float64)
    assert 100 * text.chrf(counts.sum(0, keepdim=True)).item() == pytest.approx(
        32.77092796885139, abs=1e-9
    )


def test_words_keep_their_marks_and_stand_alone_where_no_spaces_part_them():
    assert text.words("कमल पढ़ता है") == ["कमल", "पढ़ता", "है"]
    assert text.words("我爱 Paris!") == ["我", "爱", "paris"]


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("so it is #### 1,234", "1234"),
        ("costs 3.50 dollars", "3.5"),
        ("x = −7.", "-7"),
        ("a 1 000 b", "1000"),
        ("2024-05-06", "6"),
        ("3e5 metres", "300000"),
    ],
)
def test_the_last_number_of_an_answer_counts(answer, number):
    assert text.number(answer, number) == 1
    assert text.number(answer, "5") == 0


def test_an_answer_without_a_number_equals_none():
    assert text.number("none", "none") == 0


def test_json_is_valid_only_as_a_whole():
    assert json_valid('{"a": [1, 2]}') == 1
    for answer in ("", "{'a': 1}", "```json\n{}\n```", "[" * 5000, "NaN"):
        assert json_valid(answer) == 0


def test_fields_are_compared_by_path_and_value():
    right = '{"name": "Ann", "address": {"city": "Paris", "zip": 75001}, "tags": ["a", "b"]}'
    assert json_fields(right, right) == 1
    assert json_fields('{"tags": ["b", "a"]}', right) == pytest.approx(2 * 2 / (2 + 5))
    assert json_fields('{"address": {"zip": "75001"}}', right) == 0
    assert json_fields("no JSON", right) == 0


def test_a_longer_word_raises_the_grade():
    assert text.grade("The cat sat. It slept.") < text.grade(
        "Notwithstanding considerations, refrain."
    )
    assert text.sentences("One. Two! 三。 Four") == 4
