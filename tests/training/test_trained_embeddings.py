"""Embeddings and head trained whole beside an adapter, with a learning rate of their own."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import strop
from strop.core.errors import ConfigError, DataError
from strop.evaluation import evaluate
from strop.models.lora.full_weights import WEIGHTS
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

WHOLE = {**QUICK, "train_embeddings": True, "learning_rate": 1e-3}


@pytest.fixture(scope="module", params=["llama", "llama3"], ids=["a head of its own", "tied"])
def model(request, tmp_path_factory):
    return save_model(request.param, tmp_path_factory.mktemp("model") / request.param)


@pytest.mark.slow
def test_training_is_the_same_with_and_without_acceleration(tmp_path, model):
    trained_both_ways(
        chats(18), model, tmp_path, **{**WHOLE, "max_steps": 20, "embedding_learning_rate": 1e-4}
    )


@pytest.mark.slow
@pytest.mark.parametrize("bits", [32, 4])
def test_a_run_resumes_to_the_same_bytes_and_exports_its_embeddings(tmp_path, model, bits):
    file = save_chats(tmp_path / "rows.jsonl", 20)
    settings = {**WHOLE, "max_steps": 4, "save_every": 2, "model": str(model), "bits": bits}
    whole = strop.train(file, out=tmp_path / "whole", **settings)
    resumed = resumed_copy(whole, tmp_path / "half", 4)
    assert_same_adapter(whole, resumed)
    trained = load_file(whole.adapter_folder / WEIGHTS)
    name = "base_model.model.model.embed_tokens.weight"
    assert trained[name].dtype == torch.float32
    (exported,) = strop.export(resumed, "merged")
    assert exported.certificate.passed
    merged = AutoModelForCausalLM.from_pretrained(exported.path, dtype=torch.float32)
    assert torch.equal(merged.get_input_embeddings().weight, trained[name])
    assert evaluate(resumed).rows == 2


@pytest.mark.slow
def test_embeddings_learn_at_their_own_rate(tmp_path, model):
    before = in_float32(model)["model"].get_input_embeddings().weight
    moved = []
    for rate in (None, 1e-5):
        run = strop.train(
            chats(8),
            **in_float32(model),
            out=tmp_path / str(rate),
            **{**WHOLE, "max_steps": 1, "warmup": 0.0, "embedding_learning_rate": rate},
        )
        name = "base_model.model.model.embed_tokens.weight"
        after = load_file(run.adapter_folder / WEIGHTS)[name]
        moved.append((after - before).abs().max().item())
        assert json.loads(run.log_file.read_text().splitlines()[1])["learning_rate"] == 1e-3
    assert moved[0] == pytest.approx(1e-3, rel=1e-2)  # Adam's first step is as long as the rate
    assert moved[1] == pytest.approx(1e-5, rel=1e-2)


@pytest.mark.slow
def test_tokens_are_added_trained_and_exported(tmp_path, model):
    file = tmp_path / "tokens.txt"
    file.write_text("<|think|>\nkilowatt\n\nkilowatt\n")
    rows = [{"prompt": f"{i} <|think|>?", "completion": f"kilowatt {i}"} for i in range(8)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {**WHOLE, "max_steps": 2, "save_every": 1, "model": str(model), "bits": 32}
    run = strop.train(data, out=tmp_path / "run", add_tokens=str(file), **settings)
    assert_same_adapter(run, resumed_copy(run, tmp_path / "half", 2))
    (exported,) = strop.export(run, "merged")
    assert exported.certificate.passed
    tokenizer = AutoTokenizer.from_pretrained(exported.path)
    assert [len(tokenizer(word)["input_ids"]) for word in ("<|think|>", "kilowatt")] == [1, 1]
    assert len(tokenizer) == len(AutoTokenizer.from_pretrained(model)) + 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"train_embeddings": False, "embedding_learning_rate": 1e-5},
            "embeddings are not trained",
        ),
        ({"train_embeddings": False, "add_tokens": "no.txt"}, "embeddings must be trained"),
        ({"add_tokens": "no.txt"}, "no.txt"),
        ({"adapter": "none"}, "train_embeddings has no effect with adapter none"),
        ({"method": "dpo"}, "train_embeddings is of methods sft, text"),
        ({"embedding_learning_rate": 0.0}, "it must be above 0"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, tiny_model, settings, message):
    given = {**WHOLE, "model": str(tiny_model), "out": tmp_path / "r", **settings}
    with pytest.raises((ConfigError, DataError), match=message):
        strop.train(chats(8), **given)
