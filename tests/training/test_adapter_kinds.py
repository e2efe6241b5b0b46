"""Kinds of adapter: trained exactly, exported, and begun with the weights of another."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import strop
from strop.core.errors import ConfigError, DataError, StropError
from strop.core.files import read_json, write_json
from strop.planning.settings import Settings
from tests.tiny.both_ways import trained_both_ways
from tests.tiny.saved import QUICK, in_float32, save_tiny_llama, sums

KINDS = {
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"down_proj": 24}, "alpha_pattern": {"q_proj": 8}},
    "loraplus": {"loraplus_lr_ratio": 16.0},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_kind_of_adapter_is_trained_exactly_and_exported(tmp_path, tiny_model, kind):
    settings = {**QUICK, "learning_rate": 1e-3, **KINDS[kind]}
    ours = trained_both_ways(sums(16), tiny_model, tmp_path, **settings)
    (exported,) = strop.export(ours, "merged")
    assert exported.certificate.passed
    config = read_json(ours.adapter_folder / "adapter_config.json")
    if kind == "patterns":
        shapes = {
            n: t.shape
            for n, t in load_file(ours.adapter_folder / "adapter_model.safetensors").items()
        }
        ranks = {s[0] for n, s in shapes.items() if "down_proj.lora_A" in n}
        assert ranks == {24}
        assert config["alpha_pattern"] == {"q_proj": 8}
    if kind in ("rslora", "dora"):
        assert config[f"use_{kind}"] is True


def test_lora_plus_learns_b_faster(tmp_path, tiny_model):
    given = {**QUICK, "max_steps": 1, "model": str(tiny_model), "warmup": 0.0}
    adapters = [
        load_file(run.adapter_folder / "adapter_model.safetensors")
        for run in (
            strop.train(sums(8), out=tmp_path / "plain", **given),
            strop.train(sums(8), out=tmp_path / "plus", loraplus_lr_ratio=4.0, **given),
        )
    ]
    for name, tensor in adapters[0].items():
        factor = 4 if "lora_B" in name else 1
        torch.testing.assert_close(adapters[1][name], factor * tensor)


@pytest.mark.slow
def test_training_goes_on_from_an_adapter_that_peft_saved(tmp_path, tiny_model):
    first = strop.train(sums(12), **in_float32(tiny_model), out=tmp_path / "first", **QUICK, rank=4)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, first.adapter_folder)
    tuned.save_pretrained(tmp_path / "peft", save_embedding_layers=False)
    second = strop.train(
        sums(12),
        **in_float32(tiny_model),
        out=tmp_path / "second",
        continue_from=str(tmp_path / "peft"),
        **QUICK,
    )
    assert read_json(second.adapter_folder / "adapter_config.json")["r"] == 4
    assert second.log[0]["held_out_loss"] == pytest.approx(first.log[-1]["held_out_loss"], rel=1e-5)
    from_run = Settings(continue_from=str(first.path))
    assert not [*from_run.problems()]


def test_an_adapter_of_another_model_is_refused(tmp_path, tiny_model):
    other = save_tiny_llama(tmp_path / "other")
    run = strop.train(sums(8), model=str(tiny_model), out=tmp_path / "run", **QUICK)
    config = read_json(run.adapter_folder / "adapter_config.json")
    write_json(run.adapter_folder / "adapter_config.json", config | {"target_modules": ["q_proj"]})
    with pytest.raises(StropError, match="of another model"):
        strop.train(
            sums(8), model=str(other), out=tmp_path / "a", continue_from=str(run.path), **QUICK
        )
    with pytest.raises(DataError, match="neither it nor its folder adapter"):
        strop.train(
            sums(8), model=str(other), out=tmp_path / "b", continue_from=str(tmp_path), **QUICK
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern is 0 for q_proj"),
        ({"loraplus_lr_ratio": 0.0}, "must be above 0"),
        ({"loraplus_lr_ratio": 2.0, "trainer": {"optim": "adafactor"}}, "leave trainer.optim out"),
        ({"continue_from": "a", "method": "dpo"}, "merge it first"),
    ],
)
def test_adapters_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Settings.read(settings)


def test_settings_that_do_not_suit_the_method_of_the_rows_are_refused(tmp_path, tiny_model):
    pairs = [{"prompt": f"{i}?", "chosen": "yes", "rejected": "no"} for i in range(8)]
    with pytest.raises(ConfigError, match="continue_from with method dpo"):
        strop.train(pairs, model=str(tiny_model), out=tmp_path / "a", continue_from="a", **QUICK)
