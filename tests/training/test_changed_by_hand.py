"""A model object that computes otherwise than its weights and settings say is refused by name."""

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaForCausalLM,
)

import strop
from strop.core.errors import ConfigError
from strop.evaluation import evaluate
from strop.models.given_weights import differences
from tests.tiny.saved import QUICK, save_kind, sums

ROWS = sums(10)


class OwnLlama(LlamaForCausalLM):
    """A class of a user, whose code no folder holds."""


def with_another_class(model):
    model.__class__ = OwnLlama


def with_another_activation(model):
    model.model.layers[1].mlp.act_fn = nn.ReLU()


def with_another_scale(model):
    model.model.layers[0].self_attn.scaling *= 2


def with_another_epsilon(model):
    model.model.norm.variance_epsilon = 0.5


def with_rounded_frequencies(model):
    model.model.rotary_emb.bfloat16()


def with_a_setting_that_came_too_late(model):
    model.config.rope_parameters["rope_theta"] = 50.0


def with_a_hook(model):
    model.model.layers[0].register_forward_hook(lambda layer, inputs, states: states * 0.5)


def with_a_hook_before_the_head(model):
    model.lm_head.register_forward_pre_hook(lambda layer, inputs: (inputs[0] * 2,))


def with_a_bound_forward(model):
    layer = model.model.layers[0].mlp
    before = layer.forward
    layer.forward = lambda x: before(x) * 0.5


def with_a_bias_on_the_head(model):
    head = model.lm_head
    model.lm_head = nn.Linear(head.in_features, head.out_features)


NAMED = {
    with_another_class: r"the model \(a OwnLlama in place of LlamaForCausalLM\)",
    with_another_activation: r"layers\.1\.mlp\.act_fn \(a ReLU in place of SiLU",
    with_another_scale: r"layers\.0\.self_attn \(scaling is .* in place of",
    with_another_epsilon: r"model\.norm \(variance_epsilon is 0\.5 in place of",
    with_rounded_frequencies: r"rotary_emb \(its buffer inv_freq has other values\).*dtype=",
    with_a_setting_that_came_too_late: r"rotary_emb \(its buffer inv_freq has other values\)",
    with_a_hook: r"model\.layers\.0 \(it carries a hook of tests\)",
    with_a_hook_before_the_head: r"lm_head \(it carries a hook of tests\)",
    with_a_bound_forward: r"mlp \(a forward of tests is bound to it\)",
    with_a_bias_on_the_head: r"in this: the weights in base hold 1 tensors .*lm_head\.bias",
}


@pytest.mark.parametrize("change", NAMED, ids=lambda change: change.__name__)
def test_what_no_folder_keeps_is_named_before_training(change, tmp_path, tiny_model):
    model, tokenizer = strop.load(tiny_model, bits=32)
    change(model)
    with pytest.raises(ConfigError, match=f"(?s){NAMED[change]}.*strop.accelerate"):
        strop.train(ROWS, model=model, tokenizer=tokenizer, out=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run/run.json").exists()


@pytest.mark.parametrize("kind", ["LlamaConfig", "Gemma2Config", "Qwen3Config", "Phi3Config"])
@pytest.mark.parametrize("bits", [16, 32])
def test_a_model_that_was_only_used_is_as_its_folder_has_it(kind, bits, tmp_path):
    folder = str(save_kind(kind, tmp_path / "model"))
    model, tokenizer = strop.load(folder, bits=bits)
    evaluate((model, tokenizer), ROWS)
    model.generate(torch.tensor([[5, 6]]), max_new_tokens=2)
    assert differences(model, folder) == []
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    plain.train()
    plain.gradient_checkpointing_enable()
    plain.enable_input_require_grads()
    assert differences(plain, folder) == []


def test_what_is_no_causal_model_is_refused_by_name(tmp_path, tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model, _ = strop.load(tiny_model, bits=32)
    sorter = AutoModelForSequenceClassification.from_pretrained(tiny_model)
    for given, text in (
        (5, "model is 5, not a causal"),
        ((model, tokenizer), "model is a tuple, not a causal"),
        (sorter, "model is a LlamaForSequenceClassification, not a causal"),
        (model.model, "model is a LlamaModel, not a causal"),
        (torch.compile(model, backend="eager"), "wrapped by torch.compile; .*_orig_mod"),
        (nn.DataParallel(model), "data parallelism; .*model.module"),
    ):
        with pytest.raises(ConfigError, match=text):
            strop.train(ROWS, model=given, tokenizer=tokenizer, out=tmp_path / "run", **QUICK)


class Processor:
    """Stands for a processor of transformers: it has a template and holds its tokenizer."""

    def __init__(self, tokenizer):
        self.tokenizer, self.chat_template = tokenizer, tokenizer.chat_template
        self.apply_chat_template = tokenizer.apply_chat_template


def test_what_is_no_tokenizer_is_refused_by_name(tmp_path, tiny_model):
    model, tokenizer = strop.load(tiny_model, bits=32)
    for named in (model, tiny_model):
        for given, text in (
            (str(tiny_model), "not a tokenizer of transformers; give AutoTokenizer"),
            (Processor(tokenizer), r"a Processor, which holds .*give that, its \.tokenizer"),
        ):
            with pytest.raises(ConfigError, match=text):
                strop.train(ROWS, model=named, tokenizer=given, out=tmp_path / "run", **QUICK)
