"""`strop report` of several runs: one page, paired where the rows are equal."""

import json

import pytest

import strop
from strop.actions.report import report
from strop.core.errors import ConfigError
from strop.evaluation import Metrics, compare
from strop.evaluation.recorded import differences_between
from tests.report.pages import Page


def test_runs_on_equal_rows_are_paired_as_an_evaluation_of_both_pairs_them(compared):
    first, second = compared
    (between,) = differences_between([first, second])
    measured = compare(second, metrics=Metrics(forgetting=False), against=[str(first.path)])
    for name, change in measured.others[0].difference.items():
        assert between[name].value == pytest.approx(change.value, abs=1e-5), name
        assert between[name].low == pytest.approx(change.low, abs=1e-4), name
        assert between[name].p == pytest.approx(change.p, abs=1e-4), name


def test_one_page_has_settings_that_differ_curves_and_paired_differences(compared, tmp_path):
    result = report([str(run.path) for run in compared], tmp_path / "compared.html")
    page = Page((tmp_path / "compared.html").read_text(encoding="utf-8"))
    assert result["report"] == str(tmp_path / "compared.html")
    assert result["between"][0].keys() == compared[0].evaluation["difference"].keys()
    assert "second less first, paired on the same 15 rows" in page.text
    rows = [e.text for e in page.all("tr")]
    assert "learning_rate0.010.003" in rows  # cells follow one another
    assert not [row for row in rows if row.startswith("batch_size")]
    labels = [e.attributes.get("aria-label", "") for e in page.all("svg")]
    assert any("first: " in x and "second: " in x and x.startswith("loss on") for x in labels)
    assert "default-src 'none'" in page.policy
    assert not page.all("script")


def test_many_runs_are_corrected_for_their_number(compared):
    first, second = compared
    one, other = differences_between([first, second, second])
    assert one == other
    assert one["loss"].p_adjusted == pytest.approx(min(1.0, 2 * one["loss"].p))


def test_runs_on_other_rows_are_shown_beside_each_other_unpaired(compared, copied, tmp_path):
    evaluation = {**copied.evaluation, "rows_sha256": "0" * 64}
    copied.evaluation_file.write_text(json.dumps(evaluation))
    result = report([str(compared[0].path), str(copied.path)], tmp_path / "c.html")
    page = Page((tmp_path / "c.html").read_text(encoding="utf-8"))
    assert result["between"] == [None]
    assert "so not paired with it: run" in page.text
    assert "Each beside its own base" in page.text


def test_a_folder_without_a_run_is_named(compared, tmp_path):
    with pytest.raises(ConfigError, match=r"has no run\.json"):
        report([str(compared[0].path), str(tmp_path)])


def test_the_page_of_one_run_is_written_again_or_where_it_is_wanted(copied, tmp_path):
    copied.report.unlink()
    assert report([str(copied.path)]) == {
        "report": str(copied.report),
        "runs": [str(copied.path)],
    }
    report([str(copied.path)], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == copied.report.read_bytes()
    assert strop.Run.open(copied.path).record == copied.record
