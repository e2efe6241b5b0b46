"""report.html as a parser sees it: what it says, and that nothing in it can act."""

import itertools
import json
import re
import shutil

import pytest

from strop.runs import report
from strop.runs.log import read_evaluation_rows
from strop.runs.report.answers import changed_answers, word_differences
from strop.runs.report.charts import nice_ticks
from strop.runs.report.measured import verdict_of
from tests.report.conftest import HOSTILE, TONES
from tests.report.pages import Page

ASKS_OUTSIDE = {"src", "srcset", "action", "data", "poster", "background", "ping"}


def test_a_page_has_no_script_and_nothing_that_asks_outside(page):
    assert not page.all("script", "iframe", "object", "embed", "link", "img", "form", "base")
    assert len(page.all("style")) == 1
    for element in page.elements:
        assert not ASKS_OUTSIDE & element.attributes.keys()
        assert not [name for name in element.attributes if name.startswith("on") or name == "style"]
        assert element.attributes.get("href", "#").startswith("#")
    assert not re.search(r"url\(|@import", page.one("style").text)


def test_the_policy_allows_the_style_sheet_of_the_page_alone(page):
    assert page.policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{page.style_digest}'" in page.policy
    assert "unsafe" not in page.policy
    position = page.source.index("Content-Security-Policy")
    assert position < page.source.index("<style>")


def test_what_stands_in_the_data_is_text(page):
    for text in (HOSTILE[0], HOSTILE[1], "{{ 7 * 7 }}", TONES[2], "<b>rows.jsonl"):
        assert text in page.text
    assert r"\x1b[31mred\u202egnp.exe\x00" in page.text
    assert "\x00" not in page.source
    assert "\u202e" not in page.source


def test_landmarks_headings_and_tables_are_in_order(page):
    assert [e.tag for e in page.all("header", "nav", "main", "footer")] == [
        *("header", "nav", "main", "footer")
    ]
    first = next(e for e in page.elements if e.path and e.path[-1] == "body")
    assert (first.tag, first.attributes["href"]) == ("a", "#main")
    levels = [int(e.tag[1]) for e in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    tables = page.all("table")
    assert len(page.all("caption")) == len(tables) > 5
    assert all(e.text for e in page.all("caption", "th"))
    assert all(e.attributes["scope"] in ("col", "row") for e in page.all("th"))
    assert page.one("html").attributes["lang"] == "en"


def test_links_of_the_contents_lead_to_sections_and_ids_are_unique(page):
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len({*ids}) == len(ids)
    links = {e.attributes["href"][1:] for e in page.all("a")}
    assert links <= {*ids}
    assert {e.attributes["aria-labelledby"] for e in page.all("section")} == links - {"main"}


def test_every_picture_has_a_text_in_its_place(page):
    pictures = page.all("svg")
    for picture in pictures:
        hidden = picture.attributes.get("aria-hidden") == "true"
        named = picture.attributes.get("role") == "img" and picture.attributes.get("aria-label")
        assert hidden or named
    labels = [p.attributes.get("aria-label", "") for p in pictures]
    for start in ("Loss by step", "learning rate", "F1 of each class", "Reliability"):
        assert any(label.startswith(start) for label in labels)
    assert sum(label.startswith("Confusion matrix") for label in labels) == 2


def test_differences_come_first_with_their_intervals(compared, page):
    head = [e.text for e in page.all("th") if e.attributes["scope"] == "col"]
    assert head[:5] == ["measure", "difference, 95 % interval", "verdict", "base", "tuned"]
    change = compared[0].evaluation["difference"]["loss"]
    shown = f"{change['value']:+.3f} ({change['low']:+.3f} to {change['high']:+.3f})"
    assert shown.replace("-", "−") in page.text
    assert "15 rows of" in page.text


def test_the_page_says_what_was_planned_learned_and_how_to_repeat_it(compared, page):
    record = compared[0].record
    for text in (
        "tokens a second",
        "main memory at its peak",
        "--learning-rate 0.01",
        "--max-steps 4",
    ):
        assert text in page.text
    for digest in (record["data"]["sha256"], *record["adapter"].values()):
        assert digest in page.text
    kinds = {e.attributes.get("class") for e in page.all("span")}
    assert {"supervised", "special_supervised", "context"} <= kinds
    assert re.search(r"text-decoration: underline double", page.one("style").text)


def test_answers_that_changed_are_ordered_by_what_the_right_label_gained(compared):
    lines = read_evaluation_rows(compared[0].evaluation_rows_file)
    labels = compared[0].evaluation["measured"]["labels"]
    by, better, worse = changed_answers(lines, labels)
    assert by == "probability of the right label"
    gains = [answer.change for answer in better]
    assert gains == sorted(gains, reverse=True)
    assert all(gain > 0 for gain in gains)
    assert all(answer.change < 0 for answer in worse)
    assert 0 < len(better) + len(worse) <= 20


def test_word_differences_join_to_the_texts_and_mark_what_the_other_lacks():
    first, second = "The cat sat, on 你好 mats.", "The dog sat on 你们 mats."
    sides = word_differences(first, second)
    assert ["".join(text for text, _ in side) for side in sides] == [first, second]
    marked = [[text for text, changed in side if changed] for side in sides]
    assert marked == [["cat", ",", "好"], ["dog", "们"]]


@pytest.mark.parametrize("words", [("." * 900, ".," * 450), ("你好" * 450, "好" * 900)])
def test_texts_of_few_signs_are_compared_as_well(words):
    first, second = word_differences(*words)
    shared = sum(len(text) for text, changed in first if not changed)
    assert shared == sum(len(text) for text, changed in second if not changed) == 450


def test_answers_of_all_kinds_are_compared_by_what_suits_them():
    free = {"line": 1, "request": "a", "reference": "b", "base": {"answer": "x"}}
    free |= {"tuned": {"answer": "b"}, "scores": {"length": [1, 1], "exact_match": [0.0, 1.0]}}
    by, (better,), worse = changed_answers([free], None)
    assert (by, better.score_before, better.score_after, worse) == ("exact match", "0", "1", [])
    choice = {"line": 2, "request": "a", "choices": ["yes", "no"], "right": 1}
    choice |= {"base": {"choices": [[0.0, 1], [0.0, 1]]}, "tuned": {"choices": [[0.0, 1], [-9, 1]]}}
    by, better, (worse,) = changed_answers([choice], None)
    assert (by, better, worse.score_before) == ("probability of the right choice", [], "50.0 %")
    assert worse.after == [("yes", False)]
    text = {"line": 3, "request": "a", "base": {"loss": 4.0, "tokens": 2}}
    text |= {"tuned": {"loss": 2.0, "tokens": 2}}
    by, (better,), _ = changed_answers([text], None)
    assert (by, better.score_after) == ("loss of the right answer, per token", "1.000")
    assert changed_answers([{"line": 1, "base": {}, "tuned": {}}], None)[1:] == ([], [])


@pytest.mark.parametrize(
    ("name", "low", "high", "adjusted", "verdict"),
    [
        ("accuracy", 0.1, 0.2, None, "better"),
        ("accuracy", -0.2, -0.1, None, "worse"),
        ("loss", -0.2, -0.1, None, "better"),
        ("accuracy", -0.1, 0.2, None, "unsure"),
        ("accuracy", 0.1, 0.2, 0.2, "unsure"),
        ("accuracy", None, None, None, "unsure"),
        ("length", 1.0, 2.0, None, "unsure"),
    ],
)
def test_a_difference_is_better_or_worse_where_its_interval_says_so(
    name, low, high, adjusted, verdict
):
    assert verdict_of(name, {"low": low, "high": high, "p_adjusted": adjusted}) == verdict


@pytest.mark.parametrize(("low", "high"), [(0, 1), (3, 3), (0, 0), (-1e-9, 1e-9), (5, 1e6)])
def test_ticks_enclose_what_is_drawn(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert len({*ticks}) == len(ticks) > 1


def test_measures_taken_while_training_become_curves(copied):
    lines = copied.log_file.read_text().splitlines()
    lines = [
        json.dumps(json.loads(x) | ({"eval_accuracy": 0.25 * i} if "held_out_loss" in x else {}))
        for i, x in enumerate(lines)
    ]
    copied.log_file.write_text("".join(f"{line}\n" for line in lines))
    report.write(copied)
    labels = [
        e.attributes.get("aria-label", "") for e in Page(copied.report.read_text()).all("svg")
    ]
    assert any(x.startswith("accuracy on the held-out rows by step: 0 at step 0") for x in labels)


def test_rows_that_are_not_those_of_the_evaluation_are_left_out(copied):
    copied.evaluation_rows_file.write_text('{"line": 1}\n{"torn": ')
    report.write(copied)
    page = Page(copied.report.read_text())
    assert "Did it get better?" in page.text
    assert "Answers that changed" not in page.text


def test_a_run_that_was_not_evaluated_and_one_that_was_stopped_have_a_page_too(copied):
    copied.evaluation_file.unlink()
    copied.evaluation_rows_file.unlink()
    record = {k: v for k, v in copied.record.items() if k not in ("measured", "steps_done")}
    copied.record_file.write_text(json.dumps(record | {"status": "running", "planned": None}))
    copied.log_file.unlink()
    shutil.rmtree(copied.adapter_folder)
    report.write(copied)
    page = Page(copied.report.read_text())
    assert "Nothing is measured yet" in page.text
    assert f"strop eval {copied.path}" in page.text
    assert "running after 0 of 4 steps" in page.text
