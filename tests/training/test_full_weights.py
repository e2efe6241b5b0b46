"""Full fine-tuning: the promises of a run whose weights are trained themselves."""

import re

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import strop
from strop.core.errors import ConfigError, UnsupportedError
from strop.evaluation import evaluate
from strop.models.lora.full_weights import WEIGHTS
from strop.planning.memory import simulate_here
from strop.planning.rules import Task, rate
from strop.planning.step import Setup
from tests.tiny.both_ways import trained_both_ways
from tests.tiny.saved import (
    QUICK,
    assert_same_adapter,
    chats,
    in_float32,
    resumed_copy,
    save_chats,
    save_model,
)

FULL = {**QUICK, "adapter": "none", "learning_rate": 1e-3}
BACKWARD = {"update_in_backward": True, "max_grad_norm": 0}


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


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_updates_in_backward_end_in_the_same_bytes(tmp_path, tiny_model, optimizer):
    given = {**FULL, "max_steps": 3, "model": str(tiny_model), "optimizer": optimizer, "bits": 32}
    rows, off = chats(20), {"max_grad_norm": 0}
    plain = strop.train(rows, out=tmp_path / "plain", **{**given, **off})
    ours = strop.train(rows, out=tmp_path / "ours", **{**given, **BACKWARD})
    assert (ours.adapter_folder / WEIGHTS).read_bytes() == (
        plain.adapter_folder / WEIGHTS
    ).read_bytes()


def test_gradients_that_are_let_go_are_not_in_the_predicted_peak(tiny_model):
    config, rows = str(tiny_model), (4, 4)
    steps = [
        simulate_here(
            Setup(config=config, rows=rows, bits=32, dtype="float32", rank=0, update_in_backward=on)
        )
        for on in (True, False)
    ]
    gradients = steps[1].at_peak["gradients"]
    assert gradients > steps[1].at_peak["adapter"] / 2
    assert steps[0].at_peak.get("gradients", 0) == 0
    assert steps[1].peak - steps[0].peak > gradients / 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"optimizer": "muon"}, {"adapter": "none", "optimizer": "muon"},
                 {"adapter": "none", "bits": 32, **BACKWARD}], ids=str,
)  # fmt: skip
def test_optimizers_of_several_parts_resume_to_the_same_bytes(tmp_path, tiny_model, settings):
    file = save_chats(tmp_path / "rows.jsonl", 20)
    given = {**QUICK, "max_steps": 4, "save_every": 2, "model": str(tiny_model), **settings}
    whole = strop.train(file, out=tmp_path / "whole", **given)
    assert_same_adapter(whole, resumed_copy(whole, tmp_path / "half", 4))
    assert whole.log[-2]["loss"] < whole.log[1]["loss"]


def test_muon_changes_matrices_by_the_size_of_adamw_s_steps(tmp_path, tiny_model):
    given = {"max_steps": 1, "warmup": 0, "schedule": "constant", "learning_rate": 1e-3}
    given |= {"bits": 32, "weight_decay": 0, "model": str(tiny_model), "optimizer": "muon"}
    run = strop.train(chats(20), out=tmp_path / "run", **{**FULL, **given})
    before = in_float32(tiny_model)["model"].state_dict()
    for name, weight in load_file(run.adapter_folder / WEIGHTS).items():
        size = (weight - before[name.removeprefix("base_model.model.")]).square().mean().sqrt()
        # 0.2 is Muon's, by arXiv:2502.16982; 1 a first step of AdamW where there is a gradient
        muon = weight.ndim == 2 and not re.search("embed|lm_head", name)
        low, high = (0.1, 0.3) if muon else (0.1, 1.01)
        assert low * 1e-3 < size < high * 1e-3, name


@pytest.mark.slow
def test_all_weights_are_exported_as_gguf_and_certified(tmp_path):
    given = {
        **FULL,
        "max_steps": 2,
        "bits": 32,
        "model": str(save_model("llama", tmp_path / "model")),
    }
    given["learning_rate"] = 2e-5  # longer steps bring logits of these random weights into ties
    (gguf,) = strop.export(strop.train(chats(20), out=tmp_path / "run", **given), "gguf")
    assert gguf.certificate.faults == ()


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
        ({"optimizer": "adamww"}, "known are adamw"),
        ({"optimizer": "adamw", "trainer": {"optim": "sgd"}}, "are both given"),
        ({"update_in_backward": True}, "add --max-grad-norm 0"),
        ({**BACKWARD, "micro_batch_tokens": 64}, "takes it in one"),
        ({**BACKWARD, "accelerate": False}, "which takes a step row by row"),
        ({**BACKWARD, "optimizer": "muon"}, "exclude one another"),
        ({**BACKWARD, "adapter": "lora"}, "is of adapter none"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, tiny_model, settings, message):
    given = {**FULL, "model": str(tiny_model), "out": tmp_path / "r", **settings}
    with pytest.raises(ConfigError, match=message):
        strop.train(chats(8), **given)
