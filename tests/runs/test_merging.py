"""Several runs on one model as one, whose update is the sum of theirs."""

import shutil

import pytest
import torch

import strop
from strop.actions.models import merge
from strop.core.errors import ConfigError, UnsupportedError
from strop.evaluation import evaluate
from tests.tiny.saved import QUICK, save_chats, save_tiny_llama


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("runs")
    data = save_chats(folder / "sums.jsonl", 20)
    settings = {**QUICK, "model": str(tiny_model), "bits": 32}
    one = strop.train(data, out=folder / "one", rank=4, **settings)
    two = strop.train(data, out=folder / "two", rank=8, use_rslora=True, seed=1, **settings)
    return one, two


def updates(run):
    layers = run.load()[0].base_model.model.named_modules()
    return {name: x.get_delta_weight("default") for name, x in layers if hasattr(x, "lora_A")}


def test_by_cat_the_update_is_the_weighted_sum(tmp_path, runs):
    result = merge([str(r.path) for r in runs], str(tmp_path / "both"), weights=[0.25, -1.5])
    run = strop.Run.open(result["run"])
    assert result["weights"] == [0.25, -1.5]
    one, two = map(updates, runs)
    for name, delta in updates(run).items():
        torch.testing.assert_close(delta, 0.25 * one[name] - 1.5 * two[name])


@pytest.mark.slow
def test_the_result_is_evaluated_and_exported_as_any_run(tmp_path, runs):
    one, two = runs
    twin = tmp_path / "twin"
    shutil.copytree(one.path, twin)
    for method in ("linear", "ties", "dare_linear", "svd"):
        of = [str(one.path), str(twin if method != "svd" else two.path)]
        results = [
            merge(of, str(tmp_path / method), method=method, seed=3, overwrite=True) for _ in "ab"
        ]
        assert results[0].keys() == results[1].keys()
        run = strop.Run.open(tmp_path / method)
        assert evaluate(run).rows == 2
    (exported,) = strop.export(run, "merged")
    assert exported.certificate.passed


def test_what_does_not_add_up_is_refused(tmp_path, runs):
    one, two = (str(run.path) for run in runs)
    out = str(tmp_path / "out")
    with pytest.raises(ConfigError, match="ranks 4, 8, and ties needs one rank"):
        merge([one, two], out, method="ties")
    with pytest.raises(
        ConfigError, match=r"(?s)1 adapter is given.*weights has 2 numbers.*'tiess'"
    ):
        merge([one], out, weights=[1, 2], method="tiess")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(ConfigError, match="which is in use"):
        merge([one, two], str(tmp_path / "used"))


@pytest.mark.slow
def test_runs_of_other_kinds_are_refused(tmp_path, runs, tiny_model):
    data = save_chats(tmp_path / "sums.jsonl", 20)
    settings = {**QUICK, "max_steps": 1, "bits": 32}
    full = strop.train(data, out=tmp_path / "f", model=str(tiny_model), adapter="none", **settings)
    one = str(runs[0].path)
    with pytest.raises(UnsupportedError, match="trained all weights"):
        merge([one, str(full.path)], str(tmp_path / "out"))
    other = save_tiny_llama(tmp_path / "other", context=128)
    run = strop.train(data, out=tmp_path / "o", model=str(other), **settings)
    with pytest.raises(ConfigError, match="trained on different models"):
        merge([one, str(run.path)], str(tmp_path / "out"))
