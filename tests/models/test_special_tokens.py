import pytest
from tokenizers import AddedToken, Tokenizer, models
from transformers import GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

from strop.data import family_template
from strop.models.special_tokens import settle


class Configured:
    """What of a model is settled."""

    def __init__(self):
        self.config = LlamaConfig()
        self.generation_config = GenerationConfig(eos_token_id=0)


def tokenizer_of(*specials, **more):
    backend = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "a": 1}, unk_token="a"))
    backend.add_special_tokens([AddedToken(s, special=True) for s in specials])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", **more)


def test_a_tokenizer_without_template_gets_its_familys_and_ends_as_it_says(tmp_path):
    tokenizer, model = tokenizer_of("<|im_start|>", "<|im_end|>"), Configured()
    settle(model, tokenizer)
    assert tokenizer.chat_template == family_template("chatml")
    assert set(model.generation_config.eos_token_id) == {
        tokenizer.eos_token_id,
        tokenizer.convert_tokens_to_ids("<|im_end|>"),
    }
    tokenizer.save_pretrained(tmp_path)
    saved = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert saved.chat_template == family_template("chatml")


def test_a_tokenizer_of_no_family_and_one_with_a_template_keep_what_they_have():
    for tokenizer in (tokenizer_of(), tokenizer_of("<|im_end|>", chat_template="{{ messages }}")):
        before = tokenizer.chat_template
        settle(Configured(), tokenizer)
        assert tokenizer.chat_template == before


@pytest.mark.parametrize("name", ["default", "tool_use", "rag"])
def test_the_end_of_a_turn_is_found_in_each_of_several_templates(name):
    named = {"default": "{{ messages }}", name: "{{ messages }}<|im_end|>"}
    tokenizer, model = tokenizer_of("<|im_end|>", chat_template=named), Configured()
    settle(model, tokenizer)
    assert tokenizer.chat_template == named
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert set(model.generation_config.eos_token_id) == ends
