"""Full fine-tuning: the promises of a run whose weights are trained themselves."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import strop
from strop.core.errors import ConfigError, UnsupportedError
from strop.evaluation import evaluate
from strop.models.lora.full_weights import WEIGHTS
from strop.planning.rules import Task, rate
from tests.tiny.both_ways import trained_both_ways
from tests.tiny.saved import (
    QUICK,
    assert_same_adapter,
    chats,
    in_float32,
    resumed_copy,
    save_chats,
)

FULL = {**QUICK, "adapter": "none", "learning_rate": 1e-3}


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [None, "embed_tokens,layers.0.self_attn,norm"])
def test_training_is_the_same_with_and_without_acceleration(tmp_path, tiny_model, freeze):
    ours = trained_both_ways(
        chats(20), tiny_model, tmp_path, **{**FULL, "max_steps": 20, "freeze": freeze}
    )
    trained = load_file(ours.adapter_folder / WEIGHTS)
    before = in_float32(tiny_model)["model"].state_dict()
    names = {key.removeprefix("base_model.model.") for key in trained}
    assert ("model.embed_tokens.weight" in names) == (freeze is None)
    assert ("model.norm.weight" in names) == (freeze is None)
    assert "model.layers.0.input_layernorm.weight" in names
    assert "model.layers.1.mlp.up_proj.weight" in names
    for name in names:
        assert not torch.equal(trained[f"base_model.model.{name}"], before[name])


@pytest.mark.slow
@pytest.mark.parametrize("bits", [32, 16])
def test_a_run_resumes_to_the_same_bytes_and_exports_its_weights(tmp_path, tiny_model, bits):
    file = save_chats(tmp_path / "rows.jsonl", 20)
    settings = {**FULL, "max_steps": 4, "save_every": 2, "model": str(tiny_model), "bits": bits}
    whole = strop.train(file, out=tmp_path / "whole", **settings)
    resumed = resumed_copy(whole, tmp_path / "half", 4)
    assert_same_adapter(whole, resumed)
    trained = load_file(whole.adapter_folder / WEIGHTS)
    (exported,) = strop.export(resumed, "merged")
    assert exported.certificate.passed
    model = AutoModelForCausalLM.from_pretrained(exported.path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, trained[f"base_model.model.{name}"])
    assert evaluate(resumed).rows == 2
    with pytest.raises(UnsupportedError, match="no adapter to write"):
        strop.export(resumed, "adapter")


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_the_learning_rate_is_a_tenth_of_an_adapter_s(family):
    task = Task(
        rows=900, held_out=0, tokens=9, supervised_tokens=9, method="sft", family=family,
        hidden_size=576, rank_parameters=9, memory=9,
    )  # fmt: skip
    adapter = rate.learning_rate(task, batch_size=16, steps=900, alpha=32).value
    assert rate.full_learning_rate(task, 1.0, batch_size=16).value == pytest.approx(
        adapter / 10, rel=0.03
    )


@pytest.mark.slow
def test_weights_of_32_bits_are_trained_unless_set(tmp_path, tiny_model):
    given = {**FULL, "max_steps": 1, "model": str(tiny_model), "optimizer": "adafactor"}
    full = strop.train(chats(20), out=tmp_path / "full", **given)
    assert full.settings["bits"] == 32
    assert full.record["model"]["trained_parameters"] == full.record["model"]["parameters"]
    names = {choice["setting"] for choice in full.record["choices"]}
    assert not names & {"rank", "alpha", "target_modules", "dropout"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 4}, "take bits 32, or 16"),
        ({"method": "dpo"}, "dpo compares with the first model"),
        ({"use_dora": True}, "use_dora and adapter none exclude"),
        ({"freeze": "layers.9"}, "freeze has layers.9, which stands for no weight"),
        ({"freeze": "model,lm_head"}, "leaves nothing to train"),
        ({"freeze": "("}, "no regular expression"),
        ({"adapter": "lora", "freeze": "norm"}, "freeze is of adapter none"),
        ({"optimizer": "adamww"}, "transformers has adamw"),
        ({"optimizer": "adamw", "trainer": {"optim": "sgd"}}, "are both given"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, tiny_model, settings, message):
    given = {**FULL, "model": str(tiny_model), "out": tmp_path / "r", **settings}
    with pytest.raises(ConfigError, match=message):
        strop.train(chats(8), **given)
