"""The packaged models, for real: what installed packages carry, converted, answers sensibly."""

import pytest

from strop.core.errors import MissingPackageError
from strop.models import complete, load
from strop.models.packaged import PACKAGED, find_parts

pytestmark = pytest.mark.slow

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
EXPECTED = {
    "smollm2-135m-instruct": ({"<|im_end|>"}, QUESTION, "Paris"),
    # A base model: it has learned no turns yet, and goes on as llama.cpp does on the same file.
    "gemma-3-270m": (
        {"<eos>", "<end_of_turn>"},
        "In 1234, there were 17 kings and 250",
        " princes.\n\nIn 1234, there were 17 kings",
    ),
    "qwen2.5-coder-0.5b-instruct": ({"<|im_end|>"}, QUESTION, "Paris"),
}


@pytest.fixture(params=PACKAGED)
def name(request):
    try:
        find_parts(request.param, PACKAGED[request.param])
    except MissingPackageError as e:
        pytest.skip(str(e))
    return request.param


def test_a_packaged_model_knows_its_end_and_answers_sensibly(name):
    model, tokenizer = load(name)
    end_tokens, prompt, expected = EXPECTED[name]
    ends = model.generation_config.eos_token_id
    assert set(tokenizer.convert_ids_to_tokens(ends)) == end_tokens
    assert tokenizer.pad_token_id not in ends
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert expected in complete(model, tokenizer, prompt, max_new_tokens=16)


def test_digits_are_tokens_of_their_own_as_in_the_original_vocabularies(name):
    _, tokenizer = load(name)
    ids = tokenizer("x1234", add_special_tokens=False)["input_ids"]
    assert [tokenizer.decode([i]) for i in ids] == ["x", "1", "2", "3", "4"]
