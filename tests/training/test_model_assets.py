"""What a run keeps so that its exports need neither the model's classes nor its data."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import strop
from strop.core.errors import DataError
from strop.training import Run
from tests.tiny.saved import QUICK, in_float32, save_chats, sums


def test_a_run_keeps_what_surrounds_the_weights(finished, tiny_model):
    names = {path.name for path in finished.assets_folder.iterdir()}
    assert names >= {"config.json", "generation_config.json", "tokenizer.json", "resolved.json"}
    assets = finished.assets()
    assert assets.saved_in == finished.assets_folder
    assert assets.folder == tiny_model
    assert assets.config.head_dim == 8  # which config.json need not say


def test_a_run_that_lost_its_assets_has_them_again_when_it_is_resumed(tmp_path, tiny_model):
    data = save_chats(tmp_path / "sums.jsonl", 20)
    run = strop.train(data, model=tiny_model, out=tmp_path / "run", **QUICK)
    before = {path.name: path.read_bytes() for path in run.assets_folder.iterdir()}
    shutil.rmtree(run.assets_folder)
    shutil.rmtree(run.adapter_folder)
    run.update(status="interrupted")
    strop.train(resume=run.path, quiet=True)
    assert run.finished
    assert before == {path.name: path.read_bytes() for path in run.assets_folder.iterdir()}


def test_a_model_without_a_folder_is_saved_whole_with_its_run(tmp_path, tiny_model):
    nameless = in_float32(tiny_model)
    nameless["model"].name_or_path = nameless["model"].config.name_or_path = ""
    alone = tmp_path / "alone"
    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(alone)  # no tokenizer
    given = {
        "model": AutoModelForCausalLM.from_pretrained(alone, dtype=torch.float32),
        "tokenizer": nameless["tokenizer"],
    }
    runs = [
        strop.train(sums(10), **objects, out=tmp_path / name, **QUICK)
        for name, objects in (("nameless", nameless), ("run", given))
    ]
    for run in runs:
        assert run.assets().saved_in == run.assets_folder
        assert run.assets().folder == run.base_folder
        assert {"config.json", "model.safetensors"} <= {p.name for p in run.base_folder.iterdir()}


@pytest.mark.parametrize(
    "name",
    ["model_assets/resolved.json", "model_assets/config.json", "activation_stats.safetensors"],
)
def test_a_damaged_file_of_a_run_is_one_clear_error_and_the_run_works_without(
    name, finished, tmp_path
):
    run = Run(Path(shutil.copytree(finished.path, tmp_path / "run")))
    file = run.path / name
    file.write_bytes(file.read_bytes()[:40])
    read = (
        run.activation_stats if name.startswith("activation_stats") else lambda: run.assets().stated
    )
    with pytest.raises(
        DataError, match=f"{file.name} is (damaged|not valid JSON).*remove"
    ) as refused:
        read()
    assert str(file) in str(refused.value)
    shutil.rmtree(file.parent) if "model_assets" in name else file.unlink()
    assert run.assets().stated == finished.assets().stated
    assert run.activation_stats().keys() <= finished.activation_stats().keys()
