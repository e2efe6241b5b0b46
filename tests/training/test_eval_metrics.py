"""Measures of held-out rows while a run trains: equal to `strop eval`, bounded in cost, obeyed."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file

import strop
from strop.core.errors import ConfigError
from strop.evaluation import evaluate
from strop.evaluation.plan import Metrics
from strop.planning.settings import Settings
from strop.runs import checkpoints
from strop.runs.run import Run
from strop.training import eval_metrics
from tests.tiny.saved import QUICK, sums

LABELLED = {"batch_size": 8, "epochs": 1, "held_out": 16, "bits": 32, "quiet": True}


def moods(count: int) -> list[dict]:
    """Return texts of a good or a bad word, labelled so."""
    rng = random.Random(0)
    words = {"good": ("fine", "great", "sunny"), "bad": ("awful", "dull", "grey")}
    labels = [rng.choice(("good", "bad")) for _ in range(count)]
    return [{"text": f"a {rng.choice(words[label])} day", "label": label} for label in labels]


def evaluations(run: Run) -> list[dict]:
    return [line for line in run.log if "held_out_loss" in line]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, tiny_model):
    """A run on labelled rows that measured all of those it held out."""
    folder = tmp_path_factory.mktemp("labelled")
    rows = folder / "moods.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in moods(48)))
    settings = LABELLED | {"eval_every": 2, "eval_rows": 16, "learning_rate": 3e-2}
    return strop.train(rows, model=tiny_model, out=folder / "run", **settings)


def test_what_a_run_measures_is_what_strop_eval_measures_of_its_adapter(labelled):
    last = evaluations(labelled)[-1]
    of_run = evaluate(labelled).metrics
    for name in ("accuracy", "macro_f1", "calibration_error"):
        assert last[f"eval_{name}"] == pytest.approx(of_run[name].value, abs=1e-6), name
    assert [line["step"] for line in evaluations(labelled)] == [0, 2, 4]
    record = labelled.record
    assert record["eval_metrics"] == {
        "metrics": ["accuracy", "macro_f1", "calibration_error"],
        "rows": last["metrics_rows"],
        "of": record["data"]["held_out_rows"],
    }
    assert 0 < record["measured"]["metrics_seconds"] < record["measured"]["seconds"]


def test_generated_answers_are_scored_as_strop_eval_scores_them(tmp_path, tiny_model):
    rows = tmp_path / "sums.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in sums(20)))
    names = ["chrf", "length", "perplexity"]
    settings = QUICK | {"bits": 32, "eval_metrics": names, "eval_rows": 9}
    run = strop.train(rows, model=tiny_model, out=tmp_path / "run", **settings)
    of_run = evaluate(run, metrics=Metrics(names=names)).metrics
    last = evaluations(run)[-1]
    assert last["metrics_rows"] == run.record["data"]["held_out_rows"]
    for name in names:
        assert last[f"eval_{name}"] == pytest.approx(of_run[name].value, rel=1e-5), name


def test_measuring_changes_no_step(tmp_path, tiny_model):
    settings = QUICK | {"bits": 32, "dropout": 0.2, "eval_every": 1}
    runs = [
        strop.train(
            sums(20), model=tiny_model, out=tmp_path / str(names), eval_metrics=names, **settings
        )
        for names in (None, "auto")
    ]
    weights = [(run.adapter_folder / "adapter_model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    assert not any(name.startswith("eval_") for line in runs[0].log for name in line)
    assert all("eval_exact_match" in line for line in evaluations(runs[1]))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, tiny_model):
    """A run that ended because the accuracy was not better for two evaluations."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    settings = LABELLED | {"epochs": 20, "eval_every": 1, "learning_rate": 1e-5, "save_every": 50}
    best = {"metric_for_best_model": "accuracy", "early_stopping_patience": 2}
    return strop.train(moods(48), model=tiny_model, out=out, **settings, **best)


def test_early_stopping_by_accuracy_ends_the_run_with_the_best_weights(stopped):
    record = stopped.record
    values = {line["step"]: line["eval_accuracy"] for line in evaluations(stopped)[1:]}
    best = record["best"]
    assert record["status"] == "finished"
    assert record["stopped_early"] is True
    assert record["steps_done"] == max(values) == best["step"] + 2 < record["steps"]
    assert best["metric"] == "accuracy"
    assert best["eval_accuracy"] == values[best["step"]] == max(values.values())
    folder = stopped.checkpoints_folder / f"checkpoint-{best['step']}"
    saved = load_file(folder / "adapter_model.safetensors")
    final = load_file(stopped.adapter_folder / "adapter_model.safetensors")
    assert all(torch.equal(saved[name], final[name]) for name in saved)
    page = stopped.report.read_text()
    assert f"whose accuracy on the held-out rows, {best['eval_accuracy']:.3f}, is the high" in page
    assert "The run stopped early" in page


def test_a_run_killed_after_its_early_stop_takes_no_further_step(stopped, tmp_path):
    import shutil

    copy = Run(shutil.copytree(stopped.path, tmp_path / "run"))
    shutil.rmtree(copy.adapter_folder)
    copy.update(status="running", best=None, stopped_early=False)
    run = strop.train(moods(48), resume=copy.path, quiet=True)
    assert run.record["best"] == stopped.record["best"]
    assert run.record["stopped_early"] is True
    assert run.log == stopped.log
    name = "adapter_model.safetensors"
    assert (run.adapter_folder / name).read_bytes() == (stopped.adapter_folder / name).read_bytes()


def test_equal_runs_measure_equal_rows_whose_number_follows_from_the_cost(tmp_path, tiny_model):
    few = LABELLED | {"eval_every": 1, "epochs": 1}
    runs = [strop.train(moods(60), model=tiny_model, out=tmp_path / n, **few) for n in "ab"]
    first, second = (
        [{k: v for k, v in x.items() if k != "metrics_seconds"} for x in evaluations(run)]
        for run in runs
    )
    assert first == second
    facts = runs[0].record["eval_metrics"]
    tokens, total = runs[0].record["data"]["tokens"], runs[0].record["steps"]
    forward = facts["rows"] * (total + 1) * tokens / runs[0].record["data"]["rows"]
    assert 1 <= facts["rows"] < facts["of"]
    assert forward <= eval_metrics.SHARE * eval_metrics.TRAINED_PASSES * tokens


def test_where_the_clock_says_that_measuring_takes_more_it_takes_fewer_rows(
    tmp_path, tiny_model, monkeypatch, caplog
):
    monkeypatch.setattr(eval_metrics, "GENERATED_PASSES", 0)  # as a machine that generates slowly
    monkeypatch.setattr(eval_metrics, "TRAINED_PASSES", 1000)
    monkeypatch.setattr(eval_metrics, "UNNOTICED", 0.0)
    settings = QUICK | {"bits": 32, "eval_every": 1, "held_out": 12, "eval_metrics": "chrf"}
    run = strop.train(sums(24), model=tiny_model, out=tmp_path / "run", **settings)
    measured = [line["metrics_rows"] for line in evaluations(run)]
    facts = run.record["eval_metrics"]
    assert measured[:2] == [facts["of"]] * 2
    assert measured[-1] < facts["of"]
    assert facts["fewer"][0] == [2, measured[2]]
    assert "from now on it is done on" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_metrics": "acuracy"}, "did you mean accuracy"),
        ({"eval_metrics": "auto,chrf"}, "auto beside other names"),
        ({"eval_metrics": "regex"}, "strop eval RUN"),
        ({"eval_metrics": "chrf", "held_out": 0}, "set held_out"),
        ({"eval_metrics": None, "eval_rows": 5}, "eval_rows has no effect"),
        ({"metric_for_best_model": "length"}, "neither more nor less is better"),
        ({"metric_for_best_model": "eval_rewards/margins", "method": "sft"}, "measured of pairs"),
        ({"early_stopping_patience": 0}, "at least 1"),
        ({"early_stopping_patience": 3, "held_out": 0}, "needs held-out rows"),
        (
            {
                "metric_for_best_model": "accuracy",
                "trainer": {"metric_for_best_model": "eval_loss"},
            },
            "leave one of them out",
        ),
        (
            {"metric_for_best_model": "accuracy", "trainer": {"greater_is_better": False}},
            "the one of the highest accuracy",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_measured_or_obeyed_is_refused_with_a_sentence(settings, message):
    with pytest.raises(ConfigError, match=message):
        Settings.read(settings)


@pytest.mark.parametrize(
    ("rows", "names", "message"),
    [
        (sums(20), "accuracy", "the answers are no labels"),
        ([{"text": f"row {i} of plain text"} for i in range(20)], "chrf", "take perplexity"),
    ],
    ids=["no labels", "plain text"],
)
def test_a_measure_that_does_not_fit_the_rows_is_refused_before_the_first_step(
    tmp_path, tiny_model, rows, names, message
):
    with pytest.raises(ConfigError, match=message):
        strop.train(rows, model=tiny_model, out=tmp_path / "run", eval_metrics=names, **QUICK)
    assert not Run.is_at(tmp_path / "run")


def test_a_run_on_pairs_measures_its_chosen_answers_and_keeps_the_best_margin(tmp_path, tiny_model):
    pairs = [
        {"prompt": row["messages"][0]["content"], "chosen": row["messages"][1]["content"], "rejected": "?"}
        for row in sums(20)
    ]  # fmt: skip
    settings = QUICK | {"eval_every": 1, "bits": 32, "metric_for_best_model": "rewards/margins"}
    run = strop.train(
        pairs, model=tiny_model, out=tmp_path / "run", eval_metrics="perplexity,chrf", **settings
    )
    lines = evaluations(run)
    assert run.record["settings"]["method"] == "dpo"
    assert all(line["eval_perplexity"] > 1 and 0 <= line["eval_chrf"] <= 1 for line in lines)
    margins = {line["step"]: line["held_out_reward_margin"] for line in lines[1:]}
    assert run.record["best"]["step"] == max(margins, key=margins.__getitem__)


def test_patience_counts_the_evaluations_after_the_best_one():
    from strop.planning.evaluations import BestModel

    by = BestModel("accuracy", patience=2)
    log = [{"step": n, "eval_accuracy": x} for n, x in enumerate((0.9, 0.4, 0.6, 0.6, 0.5))]
    assert checkpoints.best(log, by=by)["step"] == 2
    assert [checkpoints.stopped_early(log, step, by) for step in range(5)] == [*[False] * 4, True]
