"""Faults of trainings are named, each in a real training, and healthy ones raise no alarm."""

import json

import pytest

import strop
from benchmarks.doctor import FAULTS, HEALTHY, trained
from strop.cli.app import app
from strop.runs.diagnosis import KINDS, diagnose
from strop.runs.diagnosis.history import History, open_history
from tests.tiny.saved import QUICK, sums

SAMPLE = ("learning rate 1e20", "TRL, both factors 0")


def test_every_fault_that_is_named_has_a_training_that_shows_it():
    seeded = {kind for kinds, _ in FAULTS.values() for kind in kinds.split()}
    assert seeded == {*KINDS} - {"diverged", "rewards_collapsing", "answers_drifting"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_a_seeded_fault_is_named_and_nothing_else(name):
    kind, training = FAULTS[name]
    assert list(trained(training)["named"]) == [kind]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sums"])
def test_a_healthy_training_raises_no_alarm(name):
    assert not trained(HEALTHY[name])["named"]


def curve(losses, **more):
    return [{"step": i, "loss": x, **more} for i, x in enumerate(losses, 1)]


def test_a_short_noisy_run_is_not_called_flat():
    losses = [2.0 + (-1) ** i * 0.4 for i in range(24)]
    assert not diagnose(History(curve(losses, learning_rate=1e-4)))


def test_a_longer_quiet_run_that_does_not_fall_is_called_flat():
    losses = [2.0 + (-1) ** i * 0.004 for i in range(24)]
    [finding] = diagnose(History(curve(losses, learning_rate=1e-4)))
    assert finding.kind == "flat_loss"


def test_memory_that_grows_as_planned_is_no_fault_and_past_it_is_one():
    memory = [
        1.2e9 + 11e6 * i for i in range(40)
    ]  # of micro-batches with ever new numbers of tokens
    lines = [line | {"memory": m} for line, m in zip(curve([2.0] * 40), memory, strict=True)]
    assert not diagnose(History(lines, planned_steps=180, planned_memory=1.85e9))
    [finding] = diagnose(History(lines, planned_steps=180, planned_memory=1.3e9))
    assert finding.kind == "memory_creeping"


def test_a_loss_that_trl_shows_as_zero_for_nan_is_told_by_its_gradient():
    [finding] = diagnose(History(curve([0.0] * 5, grad_norm=float("nan"))))
    assert (finding.kind, finding.step) == ("not_a_number", 1)


def test_a_fault_that_explains_others_is_named_alone():
    losses = [2.0, 2.1, 9.0, 30.0, 80.0, 90.0, 95.0, float("nan")]
    assert [f.kind for f in diagnose(History(curve(losses)))] == ["not_a_number"]


def test_the_trainer_state_of_the_newest_checkpoint_is_read(tmp_path):
    for step in (5, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        lines = [{"step": i, "loss": 1.0, "grad_norm": 1.0} for i in range(1, step + 1)]
        state = {"global_step": step, "max_steps": 20, "log_history": lines}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    history = open_history(tmp_path)
    assert (history.steps, history.planned_steps) == (10, 20)


def test_the_command_names_faults_as_text_and_as_json(tmp_path, capsys):
    lines = curve([2.0, 2.0, 2.0], grad_norm=0.0)
    state = {"global_step": 3, "max_steps": 3, "log_history": lines}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    app(["diagnose", str(tmp_path)], standalone_mode=False)
    assert "no gradient (step 1)" in capsys.readouterr().out
    app(["diagnose", str(tmp_path), "--json"], standalone_mode=False)
    result = json.loads(capsys.readouterr().out)
    assert [f["kind"] for f in result["findings"]] == ["no_gradient"]


@pytest.mark.slow
def test_a_run_records_what_is_named_while_it_trains(tmp_path, tiny_model, capsys):

    options = QUICK | {"max_steps": 20, "learning_rate": 1e-9, "bits": 32, "quiet": False}
    run = strop.train(sums(30), model=str(tiny_model), out=tmp_path / "run", **options)
    assert [finding["kind"] for finding in run.record["diagnosis"]] == ["rate_too_small"]
    assert capsys.readouterr().err.count("rate too small:") == 1
    assert "Rate too small" in run.report.read_text()
