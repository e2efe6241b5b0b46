import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from strop.core.errors import ConfigError, UnsupportedError
from strop.models.sampling import complete, reply
from strop.models.sampling.text import pieces_of_text

CHAT = [{"role": "user", "content": "hello"}]
TEMPLATE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<|im_end|>' }}{% endfor %}"


def byte_tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(("<|endoftext|>", "<|im_end|>", *alphabet))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
    )


TOKENIZER = byte_tokenizer()


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@given(st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_pieces_joined_are_the_decoded_text(text):
    ids = TOKENIZER(text)["input_ids"]
    assert "".join(pieces_of_text(TOKENIZER, ids)) == TOKENIZER.decode(ids)


def test_a_character_of_several_tokens_comes_in_one_piece():
    ids = TOKENIZER("a😀b")["input_ids"]
    assert list(pieces_of_text(TOKENIZER, ids)) == ["a", "😀", "b"]


def test_the_likeliest_answer_is_the_one_transformers_generates(model):
    prompt = TOKENIZER.apply_chat_template(CHAT, return_tensors="pt", return_dict=True)
    out = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    expected = TOKENIZER.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert complete(model, TOKENIZER, CHAT, max_new_tokens=12) == expected


def test_drawing_depends_on_the_seed_and_on_nothing_else(model):
    answers = [
        complete(model, TOKENIZER, CHAT, max_new_tokens=12, temperature=1.0, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert answers[0] == answers[1] != answers[2]


def test_the_end_token_ends_the_answer_and_is_not_yielded(model):
    prompt = TOKENIZER.apply_chat_template(CHAT, return_tensors="pt", return_dict=True)
    out = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    ids = out[0, prompt["input_ids"].shape[1] :].tolist()
    end = ids[5]
    model.generation_config.eos_token_id = [end]
    answer = complete(model, TOKENIZER, CHAT, max_new_tokens=12)
    assert answer == TOKENIZER.decode(ids[: ids.index(end)], skip_special_tokens=True)


def test_the_model_is_left_as_it_was_even_if_the_answer_is_not_read_to_its_end(model):
    model.train()
    pieces = reply(model, TOKENIZER, CHAT, max_new_tokens=12)
    next(pieces)
    assert torch.is_grad_enabled()
    pieces.close()
    assert model.training


def test_an_answer_stops_at_the_models_context(model):
    long = "x" * 60
    assert len(TOKENIZER(complete(model, TOKENIZER, long, max_new_tokens=50))["input_ids"]) <= 8
    with pytest.raises(ConfigError, match="prompt has 64 tokens and the model takes 64"):
        complete(model, TOKENIZER, "x" * 64)


def test_messages_without_a_template_are_refused_and_a_text_is_not(model):
    bare = byte_tokenizer()
    bare.chat_template = None
    with pytest.raises(UnsupportedError, match=r"no chat template, .* give one text"):
        complete(model, bare, CHAT)
    assert isinstance(complete(model, bare, "hello", max_new_tokens=3), str)


@pytest.mark.parametrize("nothing", ["", []])
def test_an_empty_prompt_is_refused(model, nothing):
    with pytest.raises(ConfigError, match=r"empty|no messages"):
        complete(model, TOKENIZER, nothing)


def test_an_impossible_setting_is_refused_at_once_and_not_at_the_first_piece(model):
    with pytest.raises(ConfigError, match="max_new_tokens is 0"):
        reply(model, TOKENIZER, CHAT, max_new_tokens=0)
