import jinja2
import pytest

from strop.core.errors import ConfigError
from strop.data import DataError, Row, Supervision, encode, family_of, family_template
from strop.data.encoding.templates import CHAT_TEMPLATES
from tests.data import small

CHAT = [
    {"role": "user", "content": "one [/INST] <|im_end|>"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
    {"role": "assistant", "content": "four"},
]
SYSTEM = [{"role": "system", "content": "be kind"}, *CHAT]
THOUGHT = [*CHAT[:3], {"role": "assistant", "content": "<think>\nhm\n</think>\n\nfour"}]

ORIGINALS = {
    ("llama3", "llama3"): (CHAT, SYSTEM, CHAT[:1]),
    ("gemma", "gemma"): (CHAT, CHAT[:1]),
    ("gemma", "gemma3"): (CHAT, SYSTEM, CHAT[:1]),
    ("phi3", "phi3"): (CHAT, CHAT[:1]),
    ("phi3", "phi3_5"): (CHAT, SYSTEM, CHAT[:1]),
    ("qwen2_5", "qwen2_5"): (CHAT, SYSTEM, CHAT[:1]),
    ("qwen3", "qwen3"): (CHAT, SYSTEM, THOUGHT, CHAT[:1]),
    ("llama3_1", "llama3_2"): (CHAT, SYSTEM, CHAT[:1]),
}


@pytest.mark.parametrize(("family", "original"), ORIGINALS, ids=lambda name: name)
def test_a_family_renders_as_the_original_does(family, original, tokenizer):
    for messages in ORIGINALS[family, original]:
        for prompt in (False, True):
            texts = [
                tokenizer.apply_chat_template(
                    messages,
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=prompt,
                    date_string="26 Jul 2024",
                )
                for template in (family_template(family), small.packaged_template(original))
            ]
            assert texts[0] == texts[1]


BY_HAND = {
    # as mistral-common 1.13 writes them
    "mistral_v1": "<s>[INST] S\n\na [/INST] b<E>[INST] c [/INST] d<E>",
    "mistral_v3": "<s>[INST] a[/INST] b<E>[INST] S\n\nc[/INST] d<E>",
    "mistral_v3_tekken": "<s>[INST]a[/INST]b<E>[INST]S\n\nc[/INST]d<E>",
    "mistral_v7": ("<s>[SYSTEM_PROMPT] S[/SYSTEM_PROMPT][INST] a[/INST] b<E>[INST] c[/INST] d<E>"),
    "mistral_v7_tekken": "<s>[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST]a[/INST]b<E>[INST]c[/INST]d<E>",
    # as the model cards write them
    "llama2": "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] b <E><s>[INST] c [/INST] d <E>",
    "zephyr": "<|system|>\nS<E>\n<|user|>\na<E>\n<|assistant|>\nb<E>\n"
    "<|user|>\nc<E>\n<|assistant|>\nd<E>\n",
    "vicuna": "<s>S USER: a ASSISTANT: b<E>USER: c ASSISTANT: d<E>",
    "alpaca": "S\n\n### Instruction:\na\n\n### Response:\nb<E>\n\n"
    "### Instruction:\nc\n\n### Response:\nd<E>",
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
    "<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
    "<|im_start|>assistant\nd<|im_end|>\n",
    "phi4": "<|im_start|>system<|im_sep|>S<|im_end|><|im_start|>user<|im_sep|>a<|im_end|>"
    "<|im_start|>assistant<|im_sep|>b<|im_end|><|im_start|>user<|im_sep|>c<|im_end|>"
    "<|im_start|>assistant<|im_sep|>d<|im_end|>",
}


@pytest.mark.parametrize("family", BY_HAND)
def test_a_family_renders_as_its_makers_write(family, tokenizer):
    contents = zip(("system", "user", "assistant", "user", "assistant"), "Sabcd", strict=True)
    messages = [{"role": role, "content": content} for role, content in contents]
    text = tokenizer.apply_chat_template(
        messages, chat_template=family_template(family), tokenize=False
    )
    assert text == BY_HAND[family].replace("<E>", "<|endoftext|>")


def test_every_family_is_compared_with_something():
    assert {f for f, _ in ORIGINALS} | set(BY_HAND) == set(CHAT_TEMPLATES)


@pytest.mark.parametrize("family", CHAT_TEMPLATES)
@pytest.mark.parametrize("messages", [CHAT, SYSTEM], ids=["chat", "system"])
def test_every_family_marks_the_answers_with_their_ends(family, messages, tokenizer):
    tokenizer.chat_template = family_template(family)
    example = encode(Row(1, messages), tokenizer)
    supervised = tokenizer.decode([i for i in example.labels if i >= 0])
    assert supervised.replace(" ", "").startswith(("two", "<think>"))
    assert all(
        word not in supervised for word in ("one", "three", "kind", "INST", "user", "ASSIST")
    )
    bare = encode(Row(1, messages), tokenizer, supervision=Supervision(end_token=False))
    words = tokenizer.decode([i for i in bare.labels if i >= 0]).split()
    assert "".join(words).replace("<think></think>", "") == "twofour"


@pytest.mark.parametrize("family", [f for f in CHAT_TEMPLATES if CHAT_TEMPLATES[f].marks])
def test_a_family_is_recognised_by_its_tokens(family):
    tokenizer = small.small_tokenizer(
        specials=["<|endoftext|>", "<s>", *CHAT_TEMPLATES[family].marks]
    )
    assert family_of(tokenizer) == family
    chat = Row(1, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    assert encode(chat, tokenizer).ids


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", "llama2"),
        ("lmsys/vicuna-7b-v1.5", "vicuna"),
        ("mistralai/Mistral-7B-Instruct-v0.2", "mistral_v1"),
        ("HuggingFaceH4/zephyr-7b-beta", "zephyr"),
        ("some/model", None),
    ],
)
def test_a_family_without_special_tokens_is_recognised_by_its_name(name, family):
    tokenizer = small.small_tokenizer(specials=["<|endoftext|>", "<s>"])
    tokenizer.name_or_path = name
    assert family_of(tokenizer) == family


def test_a_tokenizer_of_no_family_is_refused_with_a_way_out():
    tokenizer = small.small_tokenizer(specials=["<|endoftext|>", "<s>"])
    with pytest.raises(DataError, match=r"no chat template.*set tokenizer\.chat_template"):
        encode(Row(1, CHAT), tokenizer)


def test_a_misspelt_family_is_corrected():
    with pytest.raises(ConfigError, match="did you mean llama3"):
        family_template("lama3")


def test_every_template_is_valid_jinja():
    for family in CHAT_TEMPLATES:
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(family_template(family))
