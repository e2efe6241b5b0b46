"""The packaged models, for real: what installed packages carry, converted, answers sensibly."""

import pytest

from strop.core.errors import MissingPackageError
from strop.models import complete, load
from strop.models.packaged import PACKAGED, find_parts

pytestmark = pytest.mark.slow

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
END_TOKENS = {
    "smollm2-135m-instruct": {"<|im_end|>"},
    "gemma-3-270m": {"<eos>", "<end_of_turn>"},
    "qwen2.5-coder-0.5b-instruct": {"<|im_end|>"},
}


@pytest.fixture(params=PACKAGED)
def name(request):
    try:
        find_parts(request.param, PACKAGED[request.param])
    except MissingPackageError as e:
        pytest.skip(str(e))
    return request.param


def test_a_packaged_model_knows_its_end_and_the_capital_of_france(name):
    model, tokenizer = load(name)
    ends = model.generation_config.eos_token_id
    assert set(tokenizer.convert_ids_to_tokens(ends)) == END_TOKENS[name]
    assert tokenizer.pad_token_id not in ends
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert "Paris" in complete(model, tokenizer, QUESTION, max_new_tokens=16)


def test_digits_are_tokens_of_their_own_as_in_the_original_vocabularies(name):
    _, tokenizer = load(name)
    ids = tokenizer("x1234", add_special_tokens=False)["input_ids"]
    assert [tokenizer.decode([i]) for i in ids] == ["x", "1", "2", "3", "4"]
