import json

import gguf as gguf_file
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers

from strop.core.errors import DataError, UnsupportedError
from strop.models.gguf import convert, file_folder
from strop.models.loading import load, resolve

WIDTH, HIDDEN, HEADS, LAYERS = 32, 64, 2, 1
TEMPLATE = "{% for m in messages %}{{ m['content'] + '<|im_end|>' }}{% endfor %}"


def write_llama(path, *, rule="smollm", architecture="llama", end=2):
    """Write a Llama of one layer as GGUF; the vocabulary is bytes and joins the digits 1 and 2."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), "12"]
    writer = gguf_file.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(5e4)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(special) + [1] * (len(tokens) - len(special)))
    writer.add_token_merges(["1 2"])
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    draw = np.random.default_rng(0)
    shapes = {"token_embd": (len(tokens), WIDTH), "output_norm": (WIDTH,)}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        shapes |= {block + n: (WIDTH, WIDTH) for n in ("attn_q", "attn_k", "attn_v", "attn_output")}
        shapes |= {block + n: (HIDDEN, WIDTH) for n in ("ffn_gate", "ffn_up")}
        shapes |= {block + "ffn_down": (WIDTH, HIDDEN)}
        shapes |= {block + n: (WIDTH,) for n in ("attn_norm", "ffn_norm")}
    values = {n: draw.normal(size=shape).astype(np.float32) for n, shape in shapes.items()}
    for name, value in values.items():
        writer.add_tensor(f"{name}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def test_a_gguf_file_becomes_a_folder_with_its_weights_template_and_tokens(tmp_path, cache, capfd):
    values = write_llama(tmp_path / "tiny.gguf")
    model, tokenizer = load(tmp_path / "tiny.gguf")
    assert capfd.readouterr() == ("", "")  # no bar of another library
    embedding = torch.from_numpy(values["token_embd"]).to(model.dtype)
    torch.testing.assert_close(model.model.embed_tokens.weight.cpu(), embedding)
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert model.config.rope_parameters["rope_theta"] == 5e4
    assert not hasattr(model.config, "quantization_config")
    assert tokenizer.chat_template == TEMPLATE
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert model.generation_config.eos_token_id == [2]


def test_the_folder_says_to_others_which_tokens_end_an_answer(tmp_path, cache):
    write_llama(tmp_path / "tiny.gguf", end=0)  # while turns of the template end with 2
    convert(tmp_path / "tiny.gguf", tmp_path / "made", name="tiny")
    settings = json.loads((tmp_path / "made" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [0, 2]


@pytest.mark.parametrize(("rule", "pieces"), [("smollm", ["1", "2"]), ("gpt-2", ["12"])])
def test_digits_are_split_as_the_vocabulary_was_trained(tmp_path, cache, rule, pieces):
    write_llama(tmp_path / "tiny.gguf", rule=rule)
    _, tokenizer = load(tmp_path / "tiny.gguf")
    assert tokenizer.tokenize("12") == pieces


def test_the_second_load_takes_the_cache(tmp_path, cache):
    write_llama(tmp_path / "tiny.gguf")
    first = resolve(tmp_path / "tiny.gguf")
    made = (first / "model.safetensors").stat().st_mtime_ns
    assert first.parent == cache
    assert resolve(tmp_path / "tiny.gguf") == first
    assert (first / "model.safetensors").stat().st_mtime_ns == made


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path, cache):
    write_llama(tmp_path / "tiny.gguf", rule="nonesuch")
    with pytest.raises(UnsupportedError, match="by the rule 'nonesuch', which is not known"):
        file_folder(tmp_path / "tiny.gguf")
    assert [entry.suffix for entry in cache.iterdir()] == [".lock"]


def test_a_file_cut_short_is_an_error(tmp_path, cache):
    write_llama(tmp_path / "tiny.gguf")
    whole = (tmp_path / "tiny.gguf").read_bytes()
    for name, size in (("head", 20), ("tail", len(whole) - 1000)):
        short = tmp_path / f"{name}.gguf"
        short.write_bytes(whole[:size])
        with pytest.raises(DataError, match="cut short"):
            file_folder(short)


def test_an_unknown_architecture_is_an_error(tmp_path, cache):
    write_llama(tmp_path / "tiny.gguf", architecture="nonesuch")
    with pytest.raises(UnsupportedError, match=r"cannot be converted: .*nonesuch"):
        file_folder(tmp_path / "tiny.gguf")
