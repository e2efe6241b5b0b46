"""Configurations of other tools, read as settings."""

import json

import pytest
import yaml

from strop.compat.configs import import_config
from strop.compat.configs.tables import ABSENT, RENAMED, UNNEEDED
from strop.core.errors import ConfigError
from strop.planning.settings import Settings, described

AXOLOTL = """
base_model: org/model
load_in_4bit: true
adapter: qlora
datasets:
  - path: rows.jsonl
    type: chat_template
    field_messages: talk
  - path: org/rows
    type: alpaca
sequence_len: 2048
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_target_linear: true
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 3
optimizer: paged_adamw_32bit
lr_scheduler: cosine
learning_rate: 2e-4
warmup_steps: 10
evals_per_epoch: 4
wandb_project: mine
special_tokens:
  pad_token: "<pad>"
no_such_key: 7
"""
LLAMA_FACTORY = """
model_name_or_path: org/model
stage: dpo
finetuning_type: lora
pref_loss: simpo
pref_beta: 2.5
lora_target: q_proj,v_proj
dataset: pairs,other
dataset_dir: .
cutoff_len: 1024
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
warmup_ratio: 0.1
val_size: 0.1
bf16: true
template: llama3
"""
UNSLOTH = """
model: org/model
data: {local_dataset: [rows.jsonl], format_type: auto}
training: {training_type: lora, load_in_4bit: false, max_steps: 50, warmup_steps: 5, num_epochs: 0,
           batch_size: 2, gradient_accumulation_steps: 4, random_seed: 3407, save_steps: 0}
lora: {lora_r: 64, target_modules: "q_proj,k_proj", use_dora: true, use_loftq: true}
logging: {enable_wandb: false, wandb_project: mine}
"""


def write(folder, text):
    (folder / "rows.jsonl").write_text("")
    (folder / "pairs.jsonl").write_text("")
    (folder / "dataset_info.json").write_text(json.dumps({"pairs": {"file_name": "pairs.jsonl"}}))
    file = folder / "config.yaml"
    file.write_text(text)
    return file


def reasons(imported):
    return {one.key: one.reason for one in imported.left_out}


def test_a_configuration_of_axolotl(tmp_path):
    imported = import_config(write(tmp_path, AXOLOTL))
    assert imported.source == "axolotl"
    assert imported.settings == {
        "model": "org/model",
        "data": str(tmp_path / "rows.jsonl"),
        "map": "talk=messages",
        "bits": 4,
        "max_length": 2048,
        "rank": 32,
        "alpha": 16,
        "target_modules": "all-linear",
        "batch_size": 8,
        "epochs": 3,
        "schedule": "cosine",
        "learning_rate": 2e-4,
    }
    left = reasons(imported)
    assert left.keys() == {
        *("datasets", "warmup_steps", "evals_per_epoch", "wandb_project", "special_tokens"),
        "no_such_key",
    }
    assert "hf download --repo-type dataset org/rows" in left["datasets"]
    assert "10 steps are --warmup 10/STEPS" in left["warmup_steps"]
    assert left["no_such_key"] == "no setting of strop has this meaning"
    assert [one.key for one in imported.unneeded] == ["sample_packing"]


def test_a_configuration_of_llama_factory(tmp_path):
    imported = import_config(write(tmp_path, LLAMA_FACTORY))
    assert imported.source == "llama-factory"
    assert imported.settings == {
        "model": "org/model",
        "data": str(tmp_path / "pairs.jsonl"),
        "bits": 16,
        "method": "simpo",
        "beta": 2.5,
        "target_modules": ["q_proj", "v_proj"],
        "max_length": 1024,
        "batch_size": 8,
        "warmup": 0.1,
        "held_out": 0.1,
    }
    assert reasons(imported).keys() == {"dataset", "template", "dataset_dir"}


def test_a_training_configuration_of_unsloth(tmp_path):
    imported = import_config(write(tmp_path, UNSLOTH))
    assert imported.source == "unsloth"
    assert imported.settings == {
        "model": "org/model",
        "data": str(tmp_path / "rows.jsonl"),
        "bits": 16,
        "max_steps": 50,
        "warmup": 0.1,
        "batch_size": 8,
        "seed": 3407,
        "rank": 64,
        "target_modules": ["q_proj", "k_proj"],
        "use_dora": True,
    }
    assert "quantization_error" in reasons(imported)["use_loftq"]


def test_what_strop_has_not_is_named_with_its_value_and_the_way(tmp_path):
    text = "base_model: m\nadapter:\nload_in_8bit: true\nrl: ebft\nlr_scheduler: polynomial\n"
    imported = import_config(write(tmp_path, text))
    left = reasons(imported)
    assert imported.settings["adapter"] == "none"  # no adapter is named, so all weights are trained
    assert "--bits 16" in left["load_in_8bit"]
    assert left["rl"].startswith("ebft is none of strop's methods: dpo")
    assert left["lr_scheduler"] == "polynomial is none of linear, cosine, constant"


def test_pre_training_and_reward_models_keep_their_methods(tmp_path):
    for stage, method in (("pt", "text"), ("rm", "reward")):
        text = f"model_name_or_path: m\nstage: {stage}\nfinetuning_type: lora\n"
        assert import_config(write(tmp_path, text)).settings["method"] == method


def test_pairs_train_an_adapter_where_all_weights_were_trained(tmp_path):
    imported = import_config(write(tmp_path, "base_model: m\nadapter:\nrl: dpo\n"))
    assert "adapter" not in imported.settings
    assert "dpo trains an adapter" in reasons(imported)["adapter"]
    Settings.read(imported.settings)


def test_parts_of_weights_are_named_with_the_flag(tmp_path):
    text = "model_name_or_path: m\nstage: sft\nfinetuning_type: freeze\n"
    assert "--freeze" in reasons(import_config(write(tmp_path, text)))["finetuning_type"]


def test_a_value_that_a_run_does_not_take_is_left_out_with_why(tmp_path):
    imported = import_config(write(tmp_path, "base_model: m\nlora_r: 0\n"))
    assert "rank" not in imported.settings
    assert "rank is 0" in reasons(imported)["rank"]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="Axolotl's has base_model"):
        import_config(write(tmp_path, "epochs: 2\n"))
    with pytest.raises(ConfigError, match="is no YAML"):
        import_config(write(tmp_path, "a: [1\n"))


def test_every_key_in_the_tables_has_one_meaning_and_every_setting_exists():
    for source, names in RENAMED.items():
        assert set(names.values()) <= described().keys(), source
        assert not (names.keys() & ABSENT.keys()), source
    assert not (ABSENT.keys() & UNNEEDED.keys())


def test_what_is_written_is_read_by_strop_train(tmp_path, monkeypatch, capsys):
    from strop.cli import main

    out = tmp_path / "settings.yaml"
    words = ["strop", "import-config", str(write(tmp_path, LLAMA_FACTORY)), "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = capsys.readouterr()
    assert printed.out == f"strop train --config {out}\n"
    assert "without counterpart: template: the model's own" in printed.err.replace("\n", "")
    assert Settings.read(yaml.safe_load(out.read_text())).method == "simpo"
