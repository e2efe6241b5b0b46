import json
import time

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from strop.core.errors import ConfigError, DataError, UnsupportedError
from strop.models.loading import load, resolve

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def folder(tmp_path):
    """A tiny Llama of random weights with a byte-level vocabulary, saved as users save theirs."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *alphabet))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_end|>"],
        chat_template=TEMPLATE,
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=0,
    )
    where = tmp_path / "tiny"
    LlamaForCausalLM(config).save_pretrained(where)
    tokenizer.save_pretrained(where)
    return where


def test_a_folder_loads_with_its_weights_in_eval_mode(folder):
    model, tokenizer = load(folder)
    saved = LlamaForCausalLM.from_pretrained(folder)
    assert not model.training
    assert model.config.use_cache
    torch.testing.assert_close(
        model.lm_head.weight.float(), saved.lm_head.weight.to(model.dtype).float()
    )
    assert tokenizer.decode(tokenizer("a 12 ü")["input_ids"]) == "a 12 ü"


def test_the_turn_end_of_the_template_ends_an_answer_and_never_pads(folder):
    model, tokenizer = load(folder)
    assert model.generation_config.eos_token_id == [0, 2]
    assert tokenizer.pad_token_id == model.config.pad_token_id


def test_a_pad_token_apart_from_the_end_token_is_taken_where_there_is_one(folder):
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = json.loads((folder / "generation_config.json").read_text()) | {"eos_token_id": 2}
    (folder / "generation_config.json").write_text(json.dumps(config))
    model, tokenizer = load(folder)
    assert tokenizer.pad_token == "<|endoftext|>"
    assert model.generation_config.pad_token_id == 0


def test_a_truncated_weight_file_is_named_with_its_size(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"model\.safetensors .* damaged or cut short: .*again"):
        load(folder)


def test_an_empty_weight_file_is_an_error_and_not_a_crash(folder):
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="damaged or cut short"):
        load(folder)


def test_missing_tensors_are_an_error_and_not_random_numbers(folder):
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 3}
    config.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=r"lack 9 tensors .*model\.layers\.2"):
        load(folder)


def test_weights_of_another_shape_are_an_error(folder):
    config = json.loads((folder / "config.json").read_text()) | {"intermediate_size": 48}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=r"do not fit its config\.json"):
        load(folder)


def test_a_folder_without_weights_says_so(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"has no weights, .* copy the model's \.safetensors"):
        load(folder)


def test_pickled_weights_are_never_opened(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04whatever")
    with pytest.raises(DataError, match=r"pytorch_model\.bin may run code .* is not opened"):
        load(folder)


def test_a_shard_that_the_index_names_and_nobody_brought_is_named(folder):
    index = {"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="lacks model-00002-of-00002"):
        load(folder)


def test_a_folder_without_a_configuration_says_so(folder):
    (folder / "config.json").unlink()
    with pytest.raises(DataError, match=r"has no config\.json; copy it"):
        load(folder)


def test_an_adapter_folder_is_distinguished_from_a_model_folder(folder):
    (folder / "config.json").rename(folder / "adapter_config.json")
    with pytest.raises(DataError, match="holds a PEFT adapter; name the base model"):
        load(folder)


def test_a_broken_configuration_is_named(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json is not valid JSON .* copy it again"):
        load(folder)


def test_a_configuration_of_an_unknown_kind_is_refused_and_its_code_not_run(folder):
    config = {"model_type": "nonesuch", "auto_map": {"AutoModelForCausalLM": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('run')")
    with pytest.raises(UnsupportedError, match=r"'nonesuch' \(it brings code .* never run"):
        load(folder)


def test_a_folder_without_a_tokenizer_says_so(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(DataError, match="has no tokenizer"):
        load(folder)


def test_a_path_that_does_not_exist_never_asks_the_hub(tmp_path):
    start = time.perf_counter()
    with pytest.raises(ConfigError, match=r"there is no folder or file .*nowhere; packaged"):
        resolve(tmp_path / "nowhere")
    assert time.perf_counter() - start < 2


def test_a_misspelt_packaged_name_gets_its_neighbour_without_the_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ConfigError,
        match=r"no folder or file .* not a packaged model, not in the local .* switched off by "
        r"HF_HUB_OFFLINE; did you mean smollm2-135m-instruct\?",
    ):
        resolve("smollm2-135m-instrukt")


def test_another_number_of_bits_is_refused(folder):
    with pytest.raises(ConfigError, match="bits is 8; it must be 4, 16 or 32"):
        load(folder, bits=8)


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    other, false = tmp_path / "model.bin", tmp_path / "model.gguf"
    other.write_bytes(b"x")
    false.write_bytes(b"PK not gguf")
    with pytest.raises(ConfigError, match=r"is a file but not a \.gguf file"):
        resolve(other)
    with pytest.raises(DataError, match="is not a GGUF file"):
        resolve(false)
