"""Weights as they are held, adapters beside them, and what the cache holds."""

import pytest
import torch
from torch import nn

from strop.layers.decoding.cache import BLOCK
from strop.layers.quantized_linear import QuantizedLinear
from strop.models.precision import store_narrow
from strop.models.sampling import Sampling, sample
from strop.models.sampling.block_cache import BlockCache, obstacle
from strop.models.sampling.rows import rows_of
from strop.ops.dequantize.cases import Case
from tests.models.test_sampling import TOKENIZER
from tests.models.test_sampling_batches import assert_is_greedy, prompts_of, small


def with_packed(model, bits):
    """Put weights of random codes, scaled to the size of the old ones, into every block."""
    for parent in [*model.model.layers.modules()]:
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                weight = Case(child.out_features, child.in_features, bits, 16).weight()
                layer = QuantizedLinear(
                    tuple(child.weight.shape), bits, 16, table=weight.table,
                    scale_table=weight.scale_table,
                )  # fmt: skip
                layer.take(weight)
                setattr(parent, name, layer)
    return model


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_packed_weights_answer_as_dense_ones_do(bits):
    model, prompts = with_packed(small(lora=False), bits), prompts_of(5, 30)
    assert obstacle(model) is None
    assert_is_greedy(
        model, prompts, sample(model, TOKENIZER, prompts, Sampling(max_new_tokens=6)), 6
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_16_bits_are_read_as_they_are(dtype):
    model, prompts = small("gemma3", lora=False).to(dtype), prompts_of(5, 30)
    store_narrow(model)
    assert obstacle(model) is None
    assert_is_greedy(
        model, prompts, sample(model, TOKENIZER, prompts, Sampling(max_new_tokens=6)), 6
    )


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"use_rslora": True, "r": 16}], ids=str)
def test_an_adapter_stays_beside_the_weights(settings):
    model, prompts = small("qwen3", **settings), prompts_of(5, 30)
    assert obstacle(model) is None
    assert_is_greedy(
        model, prompts, sample(model, TOKENIZER, prompts, Sampling(max_new_tokens=6)), 6
    )


def test_a_model_that_is_trained_whole_is_read_too():
    model = small(lora=False).train().requires_grad_(True)
    assert obstacle(model) is None


def test_the_cache_holds_a_prompt_of_several_answers_once():
    model = small(lora=False, positions=2048)
    prompts = prompts_of(1024) * 8
    wishes = [Sampling(max_new_tokens=3)] * 8
    rows = rows_of(model, TOKENIZER, prompts, wishes, range(8), frozenset())
    cache = BlockCache(model, rows)
    cache.start(rows)
    for row in rows:
        row.take(5, 0.0, TOKENIZER)
    cache.step(rows)
    config = model.config
    width = 16  # of a head, 12, in whole vectors
    block = config.num_hidden_layers * 2 * config.num_key_value_heads * width * BLOCK * 4
    assert cache.nbytes == (1024 // BLOCK + 8) * block
    rows[0].take(5, 0.0, TOKENIZER)
    rows[1].take(5, 0.0, TOKENIZER)
    cache.step(rows[:2])
    assert cache.nbytes == (1024 // BLOCK + 2) * block
