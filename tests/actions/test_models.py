"""Which models are at hand, and what each needs."""

import json

import pytest

from strop.actions.models import models
from strop.core.errors import ConfigError
from strop.models.packaged import PACKAGED
from strop.planning.fitting import ModelSize, inference_memory, known_models, training_memory

CONFIG = {
    "model_type": "llama",
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def save_empty(folder, **entries):
    """Write a model folder whose file of weights has one small tensor."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    tokens = [{"content": mark} for mark in ("<|start_header_id|>", "<|eot_id|>")]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    (folder / "tokenizer_config.json").write_text(json.dumps(entries))
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    content = len(header).to_bytes(8, "little") + header + bytes(4)
    (folder / "model.safetensors").write_bytes(content)


def by_name(folder):
    return {row["name"]: row for row in models([str(folder)])["models"]}


def test_packaged_folders_and_known_models_are_listed_with_what_they_need(cache, tmp_path):
    folder = tmp_path / "mine" / "deep" / "model"
    save_empty(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    rows = by_name(tmp_path / "mine")
    mine = rows[str(folder)]
    assert (mine["source"], mine["present"]) == ("folder", True)
    assert (mine["license"], mine["template"]) == ("mit", "llama3")
    assert mine["known_blocks"]
    assert mine["about"]
    assert mine["memory"]["inference_4bit"] < mine["memory"]["inference"]
    assert mine["memory"]["qlora"] < mine["memory"]["lora"]
    assert PACKAGED.keys() <= rows.keys()
    phi = rows["microsoft/phi-4"]
    assert (phi["source"], phi["license"], phi["template"]) == ("hub", "mit", "phi4")
    assert not phi["about"]
    assert PACKAGED["gemma-3-270m"].hub not in rows, "listed under its packaged name"


def test_a_template_of_the_folder_comes_before_that_of_its_family(cache, tmp_path):
    save_empty(tmp_path / "mine" / "model", chat_template="{{ messages }}")
    assert by_name(tmp_path / "mine")[str(tmp_path / "mine" / "model")]["template"] == "its own"


def test_a_folder_that_cannot_be_used_says_what_it_lacks(cache, tmp_path):
    save_empty(tmp_path / "mine" / "model")
    (tmp_path / "mine" / "model" / "tokenizer.json").unlink()
    row = by_name(tmp_path / "mine")[str(tmp_path / "mine" / "model")]
    assert not row["present"]
    assert "has no tokenizer" in row["obstacle"]


def test_a_folder_that_is_not_there_is_named(cache, tmp_path):
    with pytest.raises(ConfigError, match=r"no folder .*absent"):
        models([str(tmp_path / "absent")])


def test_weights_counted_from_a_configuration_are_those_of_the_model():
    import torch
    import transformers

    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**CONFIG))
    matrices = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    assert ModelSize.of(CONFIG).parameters == matrices
    assert ModelSize.of({"model_type": "rwkv"}) is None


def test_memory_by_size_is_that_of_the_known_model_of_the_same_size():
    widths = [ModelSize.of(model.config).width for model in known_models().values()]
    for name, model in known_models().items():
        size = ModelSize.of(model.config)
        assert inference_memory(size)[4] < inference_memory(size)[16] < model.training[16], name
        if widths.count(size.width) == 1:
            assert training_memory(size) == model.training, name
    half = ModelSize.of({**CONFIG, "num_hidden_layers": 1})
    assert training_memory(half)[4] < training_memory(ModelSize.of(CONFIG))[4]
