"""Every kind of adapter that PEFT builds: exact on strop's path, or reported in the log and exact."""

import logging

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from strop.forward.base_model import base_model
from strop.forward.compact import install
from tests import tiny
from tests.forward.plain import OUTPUTS, compare, gradients_of, plain, step

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TRAINED = "a block runs as transformers wrote it: one of its linear layers cannot be read: "
FAST = {
    "rank-stabilised": {"use_rslora": True},
    "dora": {"use_dora": True},
    "dora, rank-stabilised": {"use_dora": True, "use_rslora": True},
    "two layers adapted": {"target_modules": ["q_proj", "down_proj"]},
    "the upper blocks adapted": {"layers_to_transform": [1, 2], "target_modules": ALL},
    "ranks that differ": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"up_proj": 3}},
    "an adapter on the head": {"target_modules": [*ALL, "lm_head"]},
    "DoRA on the head": {"target_modules": [*ALL, "lm_head"], "use_dora": True},
    "a trained head": {"modules_to_save": ["lm_head"]},
    "an adapter on the embedding": {"target_modules": [*ALL, "embed_tokens"]},
    "a trained embedding": {"modules_to_save": ["embed_tokens"]},
    "both trained": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "some tokens trained": {"trainable_token_indices": [5, 9, 77]},
    "the last norm trained": {"modules_to_save": ["model.norm"]},
    "every norm trained": {
        "modules_to_save": ["input_layernorm", "post_attention_layernorm", "norm"]
    },
    "a whole layer": {"target_modules": ALL[:4], "modules_to_save": ["up_proj"]},
}
"""Nothing is switched off for these."""
REPORTED = {
    "every bias": ("qwen2", {"bias": "all"}, "its base weight or bias is trained"),
    "the adapters' biases": ("qwen2", {"bias": "lora_only"}, "its base weight or bias is trained"),
    "a bias in the adapter": (
        "qwen2",
        {"lora_bias": True, "target_modules": ALL[:3]},
        "its adapter has a bias",
    ),
}
"""Family, settings, and the report about the blocks."""


@pytest.mark.parametrize(
    "activations", ["keep", pytest.param("checkpoint", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("family", ["llama", pytest.param("qwen3", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", FAST)
def test_an_adapter_on_the_fast_path_is_exact(kind, family, activations):
    model = tiny.model(family, **FAST[kind])
    compare(model, tiny.batch(), activations=activations, fuse="always")


@pytest.mark.parametrize("kind", ["dora", "an adapter on the head", "both trained"])
def test_it_is_exact_in_micro_batches_that_share_prefixes(kind):
    batch = tiny.batch(shared=40, lengths=(60, 44, 50, 60, 12, 41))
    slope = torch.rand(batch["labels"][:, 1:].shape, dtype=torch.float64)
    for linear in (True, False):
        compare(
            tiny.model("llama", **FAST[kind]),
            batch,
            slope=None if linear else slope,
            fuse="always",
            micro_batch_tokens=70,
            linear_loss=linear,
        )


@pytest.mark.parametrize("kind", REPORTED)
def test_what_the_halves_do_not_serve_is_reported_once_and_exact(kind, caplog):
    family, settings, why = REPORTED[kind]
    model = tiny.model(family, **settings)
    with caplog.at_level(logging.WARNING, "strop"):
        compare(model, tiny.batch(), fuse="always", reports=[TRAINED + why])
    assert sum(why in line for line in caplog.messages) == 1


@pytest.mark.parametrize("activations", ["keep", "checkpoint"])
@pytest.mark.parametrize("family", ["llama", "llama3", "qwen3"])
def test_every_weight_trained_is_exact(family, activations):
    model = tiny.model(family, lora=False)
    compare(model, tiny.batch(), activations=activations, fuse="always")


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")
def test_tied_weights_that_are_trained_are_exact():
    for settings in ({"trainable_token_indices": [5, 9]}, {"modules_to_save": ["embed_tokens"]}):
        compare(tiny.model("llama3", **settings), tiny.batch(), fuse="always")


@pytest.mark.parametrize("how", ["switched off", "merged", "a second one in use", "two in use"])
def test_the_adapter_that_is_active_now_is_the_one_that_counts(how):
    model = tiny.model("llama")
    reports = []
    if how == "merged":
        model.merge_adapter()
    elif how.startswith(("a second", "two")):
        model.add_adapter("second", model.peft_config["default"])
        for name, parameter in model.named_parameters():
            if "second" in name:
                torch.nn.init.normal_(parameter.data, std=0.2)
        model.to(torch.float64).set_adapter("second")
        if how == "two in use":
            model.base_model.set_adapter(["default", "second"])
            reports = [TRAINED + "it has 2 active adapters"]
    if how == "switched off":
        model.get_input_embeddings().weight.requires_grad_()
        with model.disable_adapter():
            compare(model, tiny.batch(), fuse="always")
    else:
        if how == "merged":
            model.get_input_embeddings().weight.requires_grad_()
        compare(model, tiny.batch(), fuse="always", reports=reports)


def run(model, batch, slope, **settings):
    """Return log-probabilities and gradients with dropout as drawn from one seed."""
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    compact, undo = install(model, **settings)
    torch.manual_seed(7)
    output, gradients = step(model, batch, slope)
    undo()
    return output.log_probs, gradients, compact.reported | compact.backbone.reported


@pytest.mark.parametrize("fuse", ["always", "never"])
@pytest.mark.parametrize("activations", ["keep", "checkpoint", "offload"])
def test_a_micro_batch_that_runs_again_draws_the_same_dropout(activations, fuse):
    """The gradient of a loss that is not linear needs each micro-batch twice, a linear one once."""
    batch = tiny.batch(shared=40, lengths=(60, 44, 50))
    how = {"fuse": fuse, "micro_batch_tokens": 1}
    expected = run(tiny.model("llama", lora_dropout=0.3), batch, None, **how, linear_loss=True)
    ours = run(tiny.model("llama", lora_dropout=0.3), batch, None, **how, activations=activations)
    again = run(tiny.model("llama", lora_dropout=0.3), batch, None, **how, activations=activations)
    assert torch.equal(ours[0], again[0])
    torch.testing.assert_close(ours[0], expected[0], rtol=1e-9, atol=0)
    assert ours[1].keys() == expected[1].keys()
    for name, gradient in ours[1].items():
        torch.testing.assert_close(gradient, expected[1][name], rtol=1e-9, atol=1e-12)
    assert any("dropout draws for each row" in line for line in ours[2])
    without = run(tiny.model("llama"), batch, None, **how)
    assert (without[0] - ours[0]).abs().max() > 1e-3


def test_dropout_s_gradient_is_that_of_its_loss():
    """With one seed the loss is a function of the weights; its slope along a direction is known."""
    batch = tiny.batch(lengths=(30, 12))
    model = tiny.model("llama", lora_dropout=0.3)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    how = {"fuse": "always", "micro_batch_tokens": 1}
    rng = torch.Generator().manual_seed(0)
    along = {n: torch.randn(p.shape, generator=rng, dtype=p.dtype) for n, p in trained.items()}
    _, gradients, _ = run(model, batch, None, **how)
    expected = sum((gradients[n] * along[n]).sum() for n in trained)
    losses = []
    for sign in (1, -1):
        for name, parameter in trained.items():
            parameter.data.add_(along[name], alpha=(1 if sign == 1 else -2) * 1e-6)
        losses.append(-run(model, batch, None, **how)[0].sum() / 7)
    torch.testing.assert_close((losses[0] - losses[1]) / 2e-6, expected, rtol=1e-5, atol=0)


def test_dora_with_dropout_runs_as_peft_wrote_it_and_is_exact_without():
    expected = TRAINED + "its adapter drops inputs at random beside DoRA"
    model = tiny.model("llama", use_dora=True, lora_dropout=0.3)
    _, _, reports = run(model, tiny.batch(), None, fuse="always")
    assert any(expected in line for line in reports)
    compare(model.eval(), tiny.batch(), fuse="always")


def autocast(model, batch, slope, **settings):
    """Return outputs and gradients of a forward under bfloat16's autocast, backward outside it."""
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    undo = install(model, **settings)[1] if settings else None
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch, fused_lm_head=True, use_cache=False)
    gradients = gradients_of(model, output.log_probs, slope)
    if undo is not None:
        undo()
    return output, gradients


def relative_errors(ours, truth):
    """Return the relative errors of the log-probabilities and of all gradients together."""
    (output, gradients), (exact, expected) = ours, truth
    assert gradients.keys() == expected.keys()
    off = [(g.double() - expected[name]).norm() for name, g in gradients.items()]
    whole = torch.stack([g.norm() for g in expected.values()]).norm()
    loss = (output.log_probs - exact.log_probs).norm() / exact.log_probs.norm()
    return torch.stack([loss, torch.stack(off).norm() / whole])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("family", "how"),
    [
        ("llama", {"activations": "checkpoint", "micro_batch_tokens": 70}),
        pytest.param("llama", {"activations": "keep"}, marks=pytest.mark.slow),
        pytest.param(
            "gemma2", {"micro_batch_tokens": 70, "linear_loss": True}, marks=pytest.mark.slow
        ),
        pytest.param("gemma2", {"micro_batch_tokens": 70, "fuse": "never"}, marks=pytest.mark.slow),
        pytest.param("llama", {"activations": "offload", "fuse": "never"}, marks=pytest.mark.slow),
        pytest.param("olmo2", {"micro_batch_tokens": 70}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_under_autocast_strop_errs_no_more_than_the_plain_path(family, how, dtype):
    """The shared rule: 1.5 times the plain path's own error against float64, over four batches."""
    narrow, exact = tiny.model(family, dtype=dtype, attention="eager"), tiny.model(family)
    values = narrow.state_dict()
    exact.load_state_dict({name: values[name].double() for name in values})
    ours, plainly = [], []
    for seed in range(4):
        batch = tiny.batch(shared=40, lengths=(60, 44, 50), seed=seed)
        slope = torch.rand(batch["labels"][:, 1:].shape, dtype=torch.float64)
        slope = None if how.get("linear_loss") else slope
        truth = plain(exact, batch, slope)
        plainly.append(relative_errors(autocast(narrow, batch, slope), truth))
        ours.append(relative_errors(autocast(narrow, batch, slope, **how), truth))
    error, allowed = (torch.stack(errors).norm(dim=0) for errors in (ours, plainly))
    assert (error <= 1.5 * allowed).all()
