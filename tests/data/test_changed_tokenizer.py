"""A tokenizer that is changed after its first use is encoded with as it is then."""

import json

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from strop.data import Row, encode, prompt
from tests.data.small import SMOLLM2, small_tokenizer

CHAT = Row(
    line=1,
    messages=[
        {"role": "user", "content": "Say Hello world"},
        {"role": "assistant", "content": "Hello world ENDS"},
    ],
)
TEXT = Row(line=1, text="Hello world ENDS")
OTHER = (
    "{% for m in messages %}### {{ m['role'] }}:\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant:\n{% endif %}"
)


def set_template(t):
    t.chat_template = OTHER


def set_several_templates(t):
    t.chat_template = {"default": OTHER, "rag": "{{ documents }}"}


def set_end(t):
    t.eos_token = "<|user|>"


def set_begin(t):
    t.bos_token = "<|user|>"
    t.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|user|> $A", special_tokens=[("<|user|>", t.convert_tokens_to_ids("<|user|>"))]
    )


def add_token(t):
    t.add_tokens(["ENDS"])


def add_special_token(t):
    t.add_special_tokens({"additional_special_tokens": ["ENDS"]})


def flag_an_added_token_anew(t):
    t.backend_tokenizer.add_tokens([AddedToken("<|im_start|>", lstrip=True, normalized=False)])


def swap_the_normalizer(t):
    t.backend_tokenizer.normalizer = normalizers.Lowercase()


def swap_the_pre_tokenizer(t):
    t.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("[a-z]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def swap_the_merges(t):
    vocabulary = t.backend_tokenizer.get_vocab(with_added_tokens=False)
    t.backend_tokenizer.model = models.BPE(vocab=vocabulary, merges=[])


def merge_nothing(t):
    t.backend_tokenizer.model.dropout = 1.0


def cut_and_pad(t):
    t("Hello world ENDS", truncation=True, max_length=2, padding="max_length")
    t.backend_tokenizer.enable_truncation(2)
    t.backend_tokenizer.enable_padding(length=90)


CHANGES = [
    set_template,
    set_several_templates,
    set_end,
    set_begin,
    add_token,
    add_special_token,
    flag_an_added_token_anew,
    swap_the_normalizer,
    swap_the_pre_tokenizer,
    swap_the_merges,
    merge_nothing,
    cut_and_pad,
]


def encoded(t):
    return [(e.ids, e.labels) for e in (encode(CHAT, t), encode(TEXT, t))], prompt(CHAT, t)


def small_chatml():
    t = small_tokenizer()
    t.chat_template = SMOLLM2
    t.pad_token = "<|system|>"
    return t


@pytest.fixture
def tokenizer():
    return small_chatml()


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_after_the_first_use_counts_as_one_before_it(change, tokenizer):
    before = encoded(tokenizer)
    change(tokenizer)
    fresh = small_chatml()
    change(fresh)
    assert encoded(tokenizer) == encoded(fresh)
    if change is not cut_and_pad:
        assert encoded(tokenizer) != before
    else:
        assert encoded(tokenizer) == before


def test_ids_of_added_tokens_may_leave_gaps(tokenizer):
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    far = len(tokenizer) + 7
    state["added_tokens"].append({**state["added_tokens"][0], "id": far, "content": "ENDS"})
    state["model"]["vocab"]["ENDS"] = far
    gaps = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), eos_token="<|endoftext|>"
    )
    assert encode(TEXT, gaps).ids[-2:] == [far, gaps.eos_token_id]
