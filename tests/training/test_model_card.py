"""What is published of a run names its base as others find it, and says what it is made of."""

import json
import re

import yaml

import strop
from strop.core import env
from strop.models.packaged import PACKAGED, published_name
from tests.tiny.saved import QUICK, save_chats


def test_a_base_is_named_as_others_find_it(tmp_path):
    smol = "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert published_name("smollm2-135m-instruct") == smol
    assert published_name(str(env.cache_folder() / "models" / "smollm2-135m-instruct")) == smol
    assert published_name("owner/name") == "owner/name"
    cached = "/x/hub/models--owner--a--b/snapshots/0123"
    assert published_name(cached) == "owner/a--b"
    assert published_name(str(tmp_path / "my-model")) == "my-model"
    assert all(row.hub.count("/") == 1 and row.license for row in PACKAGED.values())


def test_an_adapter_has_a_card_and_no_path_of_the_machine(tmp_path, tiny_model):
    rows = save_chats(tmp_path / "sums.jsonl", 10)
    run = strop.train(str(rows), model=tiny_model, out=tmp_path / "run", **QUICK)
    config = json.loads((run.adapter_folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == tiny_model.name
    assert config["target_modules"] == sorted(config["target_modules"])
    card = (run.adapter_folder / "README.md").read_text()
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "base_model": tiny_model.name,
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "strop"],
    }
    assert f"8 rows of {rows.name}" in body
    assert run.record["data"]["sha256"] in body
    assert re.search(r"loss on the held-out rows \d\.\d+ before training, \d\.\d+ after it", body)
    assert f"strop train {rows.name} --model {tiny_model.name}" in body
    assert "--max-steps 3" in body
    for file in run.adapter_folder.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
        assert str(tiny_model).encode() not in file.read_bytes()
