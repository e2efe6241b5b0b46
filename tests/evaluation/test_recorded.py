"""What an evaluation leaves in a run's folder, from which reports and comparisons are made."""

import pytest

import strop
from strop.core.files import read_sealed
from strop.evaluation import Metrics, compare
from strop.evaluation.recorded import recorded_scores
from strop.runs.log import read_evaluation_rows
from tests.tiny.saved import QUICK, save_chats

TONES = ("positive", "negative", "so so")
LABELLED = [
    {"prompt": f"tone of text {i}: {'x' * (i % 7)}", "completion": TONES[i % 3]} for i in range(24)
]
FREE = [
    {"prompt": f"count to {i}", "completion": " ".join(map(str, range(i)))} for i in range(1, 9)
]


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("recorded")
    data = save_chats(folder / "sums.jsonl", 20)
    return strop.train(data, model=tiny_model, out=folder / "run", **QUICK)


@pytest.mark.parametrize(
    ("rows", "metrics"),
    [
        (LABELLED, Metrics()),
        (FREE, Metrics(names=["chrf", "rouge_l", "length", "exact_match"], max_new_tokens=4)),
    ],
)
def test_every_measure_of_the_tuned_model_follows_from_the_rows_on_file(run, rows, metrics):
    tuned = compare(run, rows, metrics=metrics).tuned
    recorded = recorded_scores(run)
    assert recorded.scores.keys() == tuned.metrics.keys()
    for name, scores in recorded.scores.items():
        assert scores.total() == pytest.approx(tuned.metrics[name].value, rel=1e-12), name
    assert len(recorded.clusters.unique()) == len(rows)


def test_rows_on_file_say_what_was_asked_and_what_is_right(run):
    rows = [*LABELLED[:23], {"prompt": "line\u2028end", "completion": "so so"}]
    tuned = compare(run, rows).tuned
    lines = read_evaluation_rows(run.evaluation_rows_file)
    assert [line["request"] for line in lines] == [row["prompt"] for row in rows]
    assert [line["reference"] for line in lines] == [row["completion"] for row in rows]
    bins = read_sealed(run.evaluation_file)["tuned"]["calibration"]
    assert bins == tuned.calibration
    assert sum(of_bin["rows"] for of_bin in bins) == 24
    hits = sum(of_bin["rows"] * of_bin["right"] for of_bin in bins)
    assert hits / 24 == pytest.approx(tuned.accuracy.value)
