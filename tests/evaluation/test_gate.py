from xml.etree import ElementTree

import pytest

from strop.actions.evaluate import gated
from strop.cli.flags import UsageError, bounds_of


def measure(value, half=0.05):
    return {"value": value, "low": value - half, "high": value + half}


def evaluated(**differences):
    against = [{"name": "runs/old", "difference": differences}] if differences else []
    tuned = {"rows": 9, "accuracy": measure(0.8), "loss": measure(1.5)}
    return {"run": "runs/new", "tuned": tuned, "against": against}


def failures(result):
    return [check["sentence"] for check in result["gate"]["checks"] if not check["passed"]]


def test_a_measure_below_or_above_its_bound_fails_with_the_reason():
    result = gated(evaluated(), below={"accuracy": 0.9, "loss": 1}, above={"loss": 1.4})
    assert failures(result) == [
        "accuracy is 0.8 (0.75 to 0.85), below 0.9",
        "loss is 1.5 (1.45 to 1.55), above 1.4",
    ]
    assert gated(evaluated(), below={"accuracy": 0.8})["gate"]["passed"]


def test_a_measure_that_was_not_taken_fails_by_name():
    result = gated(evaluated(), below={"accuracyy": 0.5})
    assert failures(result) == ["accuracyy was not measured; measured are accuracy, loss"]


def test_a_run_fails_only_where_it_is_surely_worse():
    worse = evaluated(accuracy=measure(-0.1), loss=measure(0.02), length=measure(-9))
    assert failures(gated(worse, no_worse_than="runs/old")) == [
        "accuracy differs by -0.1 (-0.15 to -0.05), surely worse than runs/old"
    ]
    higher_loss = evaluated(loss=measure(0.2))
    assert len(failures(gated(higher_loss, no_worse_than="runs/old"))) == 1


def test_checks_are_written_as_junit(tmp_path):
    file = tmp_path / "checks.xml"
    gated(evaluated(), below={"accuracy": 0.9}, above={"loss": 2}, junit=file)
    suite = ElementTree.parse(file).getroot()
    assert suite.attrib == {"name": "strop eval runs/new", "tests": "2", "failures": "1"}
    assert suite.find("testcase/failure").attrib["message"].endswith("below 0.9")


def test_a_condition_without_a_number_is_named():
    with pytest.raises(UsageError, match=r"write it as accuracy=0\.7"):
        bounds_of(["accuracy>0.7"], "--fail-below")
    assert bounds_of(["a = 1", "b=-2.5"], "--fail-below") == {"a": 1, "b": -2.5}
