"""A model changed by hand, or adapted by what looks at more than a token, is computed as TRL does."""

import types

import peft
import pytest
import torch
from torch import nn
from trl.trainer.utils import add_fused_lm_head

from strop.forward.base_model import base_model
from strop.forward.compact import install
from tests import tiny
from tests.forward.plain import OUTPUTS, compare, step


def assert_left_to_trl(model, text, batch=None, *, reports=1):
    """Compare a step with TRL's bit for bit; the one line that is reported has `text`."""
    batch = tiny.batch(shared=40, lengths=(60, 44, 50)) if batch is None else batch
    if not hasattr(vars(base_model(model)).get("forward"), "__func__"):
        add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    torch.manual_seed(0)
    theirs, expected = step(model, batch)
    compact, undo = install(model)
    torch.manual_seed(0)
    ours, gradients = step(model, batch)
    assert torch.equal(ours.log_probs, theirs.log_probs)
    assert gradients.keys() == expected.keys()
    assert all(torch.equal(gradients[name], expected[name]) for name in gradients)
    step(model, batch)
    undo()
    assert len(compact.reported) == reports, compact.reported
    assert text in next(iter(compact.reported))


def half(module, given, answer):
    """Halve what a module answers."""
    if isinstance(answer, tuple):
        return answer[0] * 0.5, *answer[1:]
    if isinstance(answer, torch.Tensor):
        return answer * 0.5
    return type(answer)(last_hidden_state=answer.last_hidden_state * 0.5)


def rebind(module):
    before = module.forward
    module.forward = types.MethodType(lambda self, *a, **k: half(self, a, before(*a, **k)), module)


def subclass(module):
    class Halved(type(module)):
        def forward(self, *args, **named):
            return half(self, args, super().forward(*args, **named))

    module.__class__ = Halved


PARTS = {
    "model": lambda decoder: decoder,
    "model.layers.1": lambda decoder: decoder.layers[1],
    "model.layers.0.self_attn": lambda decoder: decoder.layers[0].self_attn,
    "model.layers.2.mlp": lambda decoder: decoder.layers[2].mlp,
    "model.layers.0.mlp.act_fn": lambda decoder: decoder.layers[0].mlp.act_fn,
}
WAYS = {
    "a hook": (lambda part: part.register_forward_hook(half), "carries a hook of tests"),
    "a hook before": (
        lambda part: part.register_forward_pre_hook(lambda *_: None),
        "carries a hook of tests",
    ),
    "a backward hook": (
        lambda part: part.register_full_backward_hook(lambda *_: None),
        "carries a hook of tests",
    ),
    "a forward re-bound": (rebind, "has a forward of tests bound to it"),
    "a subclass": (subclass, "is a Halved, whose forward is code of tests"),
    "torch.compile": (lambda part: part.compile(backend="eager"), "is compiled"),
}
SOME = [
    *(("model", way) for way in WAYS if way not in ("a backward hook", "torch.compile")),
    ("model.layers.0.mlp.act_fn", "torch.compile"),
    ("model.layers.2.mlp", "a backward hook"),
    *((part, "a forward re-bound") for part in PARTS if part != "model"),
    *((part, "a subclass") for part in PARTS if part != "model"),
]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize(("part", "way"), SOME)
def test_a_part_that_was_changed_is_computed_as_it_is_now(part, way):
    model = tiny.model("qwen2")
    change, text = WAYS[way]
    change(PARTS[part](base_model(model).model))
    assert_left_to_trl(model, f"{part} {text}")


def test_a_class_of_transformers_that_was_patched_is_seen(monkeypatch):
    model = tiny.model("qwen2")
    kind = type(base_model(model).model.layers[0].mlp)
    before = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, x: before(self, x) * 0.5)
    assert_left_to_trl(model, "model.layers.0.mlp is a Qwen2MLP, whose forward is code of tests")


def test_a_hook_for_every_module_is_seen():
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert_left_to_trl(tiny.model("llama"), "hooks are registered for every module")
    finally:
        handle.remove()


def test_another_activation_than_the_configuration_names_is_computed():
    model = tiny.model("llama")
    base_model(model).model.layers[1].mlp.act_fn = nn.ReLU()
    compare(model, tiny.batch(), fuse="always", reports=["the activation of LlamaMLP is not known"])


def test_a_norm_of_another_class_is_computed():
    model = tiny.model("llama")
    norm = nn.RMSNorm(48, eps=0.5, dtype=torch.float64).requires_grad_(False)
    base_model(model).model.layers[1].input_layernorm = norm
    compare(model, tiny.batch(), fuse="always", reports=["RMSNorm is not as transformers wrote it"])


def test_what_torch_and_transformers_hook_and_parametrize_themselves_is_served():
    model = tiny.model("llama")
    base = base_model(model)
    base.enable_input_require_grads()
    nn.utils.parametrizations.weight_norm(base.model.layers[0].mlp.up_proj.base_layer)
    compare(model, tiny.batch(), fuse="always", reports=["cannot be read"])


NAMES = ["q_proj", "v_proj", "down_proj"]
CAUSAL = {"task_type": "CAUSAL_LM"}
MIXING = {
    "lily": lambda: peft.LilyConfig(r=4, target_modules=NAMES, **CAUSAL),
    "pvera": lambda: peft.PveraConfig(r=4, target_modules=NAMES, **CAUSAL),
}


@pytest.mark.parametrize("method", MIXING)
def test_a_method_that_may_look_at_the_whole_batch_is_left_to_trl(method):
    base = tiny.model("llama", lora=False, dtype=torch.float32)
    model = peft.get_peft_model(base, MIXING[method]())
    assert_left_to_trl(model.train(), f"belongs to PEFT's {method}, which may mix")


KINDS = {
    "norms": lambda: peft.LNTuningConfig(
        target_modules=["input_layernorm", "post_attention_layernorm", "norm"], **CAUSAL
    ),
    "ia3": lambda: peft.IA3Config(
        target_modules=NAMES, feedforward_modules=["down_proj"], **CAUSAL
    ),
    "vera": lambda: peft.VeraConfig(r=4, target_modules=["q_proj", "o_proj"], **CAUSAL),
    "miss": lambda: peft.MissConfig(r=4, target_modules=NAMES, **CAUSAL),
    "peanut": lambda: peft.PeanutConfig(r=4, target_modules=NAMES, **CAUSAL),
    "hra": lambda: peft.HRAConfig(r=4, target_modules=NAMES, **CAUSAL),
}


@pytest.mark.filterwarnings("ignore:Unsupported layer type")
@pytest.mark.parametrize("kind", KINDS)
def test_a_method_that_treats_each_token_by_itself_is_served(kind):
    base = tiny.model("llama", lora=False, dtype=torch.float64)
    model = peft.get_peft_model(base, KINDS[kind](), autocast_adapter_dtype=False).double()
    reports = ["LNTuningLayer is not as"] if kind == "norms" else ["cannot be read"]
    compare(model, tiny.batch(), fuse="always", reports=reports)


def test_an_activated_adapter_is_left_to_trl():
    batch = tiny.batch(shared=40, lengths=(60, 44, 50))
    tokens = batch["input_ids"][0, 12:14].tolist()
    model = tiny.model("llama", dtype=torch.float32, alora_invocation_tokens=tokens)
    assert_left_to_trl(model, "ALoraLinearVariant", batch)


DROPPING = {
    "gpt2": ("GPT2Config", {"attn_pdrop": 0.5}, "h.0.attn drops attention weights"),
    "gpt_neox": ("GPTNeoXConfig", {"attention_dropout": 0.5}, "drops attention weights"),
    "biogpt": ("BioGptConfig", {"attention_probs_dropout_prob": 0.5}, "drops attention weights"),
    "opt": ("OPTConfig", {"layerdrop": 0.5, "attention_dropout": 0.0}, "has a layerdrop"),
}


@pytest.mark.parametrize("kind", DROPPING)
def test_dropout_of_attention_or_of_a_whole_layer_is_left_to_trl(kind):
    assert_left_to_trl(dropping(kind).train(), DROPPING[kind][2])


def dropping(kind):
    import transformers

    name, special, _ = DROPPING[kind]
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "hidden_dropout_prob": 0.0, "dropout": 0.0}
    sizes = {"n_embd": 48, "n_head": 4, "n_layer": 2, "n_positions": 512, "ffn_dim": 80}
    sizes |= {"word_embed_proj_dim": 48} if kind == "opt" else {}
    config = getattr(transformers, name)(**(tiny.COMMON | none | sizes | special))
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).float()


@pytest.mark.parametrize("share", ["router_jitter_noise", "dropout"])
def test_what_draws_for_each_token_without_a_dropout_layer_shares_no_prefix(share):
    import transformers

    if share == "dropout":
        config = transformers.OPTConfig(
            **tiny.COMMON, ffn_dim=80, word_embed_proj_dim=48, dropout=0.5
        )
    else:
        config = transformers.MixtralConfig(
            **tiny.COMMON, num_local_experts=2, router_jitter_noise=0.5
        )
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    for train in (True, False):
        compact, undo = install(model.train(train))
        assert compact.backbone.shares_prefixes() is not train
        undo()
