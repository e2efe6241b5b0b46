"""Sweeps: trials in one folder, chosen, cut short, resumed, and the best of them."""

import json

import pytest

from strop.cli.app import app
from strop.core.errors import ConfigError, MissingPackageError
from strop.training.sweep.space import Range, check_space, grid
from tests.tiny.saved import QUICK, save_chats

CASES = QUICK | {"bits": 32, "batch_size": 8, "max_steps": 2, "held_out": 4}


@pytest.fixture
def settings(tmp_path, tiny_model):
    data = save_chats(tmp_path / "sums.jsonl", 40)
    given = CASES | {"data": str(data), "model": str(tiny_model)}
    del given["learning_rate"], given["quiet"]
    return given


def test_all_faults_of_a_space_are_named_at_once():
    space = {"rank": [8, "many"], "learning_rate": Range(1e-3, 1e-4), "seed": [1, 2], "ranks": [3]}
    with pytest.raises(ConfigError) as error:
        check_space(space, {})
    for fault in ("'many'", "from 0.001 to 0.0001", "seed, which decides the rows", "ranks is not"):
        assert fault in str(error.value)


def test_lists_are_tried_in_every_combination_and_ranges_are_not_counted():
    assert len(grid({"rank": [8, 16], "alpha": [8, 16, 32]})) == 6
    assert grid({"rank": [8, 16], "learning_rate": Range(1e-4, 1e-3)}) is None


def test_a_sweep_without_optuna_names_the_extra(settings, monkeypatch):
    from strop.actions.train import sweep

    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(MissingPackageError, match=r"strop\[sweep\]"):
        sweep(settings, {"rank": [2, 4]})


@pytest.mark.slow
def test_the_best_of_a_grid_is_an_ordinary_run_with_its_command(settings, tmp_path, capsys):
    pytest.importorskip("optuna")
    flags = [f"--{name.replace('_', '-')}={x}" for name, x in settings.items() if name != "data"]
    out = tmp_path / "sweep"
    command = ["sweep", settings["data"], *flags, "--out", str(out)]
    app(
        [*command, "--json", "--over", "learning_rate=1e-2,1e-7", "rank=2"],
        standalone_mode=False,
    )
    result = json.loads(capsys.readouterr().out)
    assert [t["state"] for t in result["trials"]] == ["finished", "finished"]
    assert result["finished"]
    assert result["best"]["settings"] == {"learning_rate": 1e-2, "rank": 2}
    assert "--learning-rate 0.01" in result["command"]
    assert (out / "trial-000" / "report.html").is_file()
    page = (out / "sweep.html").read_text()
    assert "held out loss by learning rate" in page
    assert "<script" not in page


def test_a_sweep_over_a_range_needs_an_end(settings, tmp_path):
    pytest.importorskip("optuna")
    from strop.actions.train import sweep

    with pytest.raises(ConfigError, match="has no end"):
        sweep(settings, {"learning_rate": {"low": 1e-4, "high": 1e-2}}, folder=tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_a_killed_sweep_goes_on_with_its_trial_and_keeps_what_is_done(settings, tmp_path):
    pytest.importorskip("optuna")
    from strop.actions.train import sweep
    from strop.runs.run import Run
    from strop.training.sweep.sweep import Sweep

    space = {"learning_rate": {"low": 1e-4, "high": 1e-2}}
    sweep(settings, space, folder=tmp_path / "s", most=1)
    opened = Sweep(tmp_path / "s")
    opened.until(None, 2)
    before = Run(tmp_path / "s" / "trial-000").record_file.read_bytes()
    opened._study.ask()  # a trial that began when the process was killed
    with pytest.raises(ConfigError, match="leave out rank"):
        sweep({"rank": 2}, {}, resume=tmp_path / "s")
    result = sweep({}, {}, resume=tmp_path / "s")  # as many as it was to have
    assert [t["number"] for t in result["trials"]] == [0, 1]
    assert result["trials"][0]["settings"]["learning_rate"] == 2e-4  # that of the settings
    assert {t["state"] for t in result["trials"]} == {"finished"}
    assert Run(tmp_path / "s" / "trial-000").record_file.read_bytes() == before


@pytest.mark.slow
def test_a_resumed_sweep_tries_what_an_undisturbed_one_tries(settings, tmp_path):
    pytest.importorskip("optuna")
    from strop.actions.train import sweep

    space = {"learning_rate": {"low": 1e-4, "high": 1e-2}, "rank": [2, 4]}
    whole = sweep(settings, space, folder=tmp_path / "whole", most=4)
    sweep(settings, space, folder=tmp_path / "parts", most=2)
    parts = sweep({}, {}, resume=tmp_path / "parts", most=4)
    tried = [t["settings"] for t in whole["trials"]]
    assert tried == [t["settings"] for t in parts["trials"]]
    assert len({t["learning_rate"] for t in tried}) == 4
