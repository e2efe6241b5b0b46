"""Mixtures of experts: expert by expert, with the loss of their routers."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from trl.trainer.utils import add_fused_lm_head

from strop.forward.base_model import base_model
from strop.forward.compact import install
from strop.forward.decoder import experts
from strop.testing import check_error
from tests import tiny
from tests.forward.plain import OUTPUTS

WEIGHT = 0.3
"""Of the router loss in the tests' losses."""


def mixture(family, *, dtype=torch.float64, lora=True, sizes=None):
    """Build a model with experts whose adapters, those of the experts among them, are not at zero."""
    stacked = {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}
    peft = stacked if family == "gpt_oss" else {}
    # the grouped product of PyTorch takes no float64
    sizes = {"experts_implementation": "eager"} | (sizes or {})
    return tiny.model(
        family, dtype=dtype, lora=lora, sizes=sizes, attention="eager", **(peft if lora else {})
    )


def step(model, batch, **settings):
    """Return log-probabilities, router loss and gradients of TRL's call, through strop if `settings`."""
    undo = install(model, **settings)[1] if settings else None
    output = model(**batch, fused_lm_head=True, use_cache=False, output_router_logits=True)
    model.zero_grad()
    slope = torch.linspace(1, 2, output.log_probs.numel()).view_as(output.log_probs)
    ((output.log_probs * slope).sum() / 7 + WEIGHT * output.aux_loss).backward()
    if undo is not None:
        undo()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return output, gradients


def assert_equal(ours, theirs, tolerance):
    (output, gradients), (exact, true_gradients) = ours, theirs
    torch.testing.assert_close(
        output.log_probs.float(), exact.log_probs, rtol=tolerance, atol=tolerance
    )
    torch.testing.assert_close(output.aux_loss, exact.aux_loss, rtol=1e-6, atol=0)
    assert gradients.keys() == true_gradients.keys()
    size = max(g.norm() for g in true_gradients.values())
    for name, gradient in gradients.items():
        assert (gradient - true_gradients[name]).norm() <= tolerance * size, name


pytestmark = pytest.mark.filterwarnings(  # PEFT says so of parameters, which have these ranks
    "ignore:The following (rank|alpha)_pattern keys did not match"
)


@pytest.mark.parametrize(
    ("family", "activations"),
    [("mixtral", "keep"), ("gpt_oss", "checkpoint")]
    + [
        pytest.param(family, activations, marks=pytest.mark.slow)
        for family in tiny.MIXTURES
        for activations in ("keep", "checkpoint")
        if (family, activations) not in (("mixtral", "keep"), ("gpt_oss", "checkpoint"))
    ],
)
def test_scores_router_loss_and_gradients_are_those_of_the_padded_batch(family, activations):
    model = mixture(family)
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    batch = tiny.batch(shared=20)
    batch["labels"][0, -6:] = -100  # tokens behind the last label count for the routers
    batch["labels"][1] = -100  # and rows without one
    plain = step(model, batch)  # TRL rounds to float32
    assert_equal(step(model, batch, activations=activations), plain, 1e-6)
    assert_equal(step(model, batch, micro_batch_tokens=60, activations=activations), plain, 1e-6)


def expert_step(model, tokens=40):
    """Return the output of a model's first experts and all their gradients."""
    (stack, (outer, *_)), *_ = experts.mixtures(model)
    dtype, rng = stack.down_proj.dtype, torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, 48, generator=rng).to(dtype).requires_grad_()
    weights = torch.rand(tokens, 2, generator=rng).to(dtype).requires_grad_()
    index = torch.rand(tokens, stack.num_experts, generator=rng).topk(2).indices
    trained = [hidden, weights, *(p for p in outer.parameters() if p.requires_grad)]
    y = outer(hidden, index, weights)
    slope = torch.linspace(-1, 1, y.numel(), dtype=dtype).view_as(y)
    return y.detach(), *torch.autograd.grad((y * slope).sum(), trained)


@pytest.mark.parametrize("family", tiny.MIXTURES)
def test_in_float32_experts_err_no_more_than_transformers(family):
    model = mixture(family, dtype=torch.float32)
    eager = expert_step(model)
    with experts.grouped(model):
        ours = expert_step(model)
    for mine, theirs, truth in zip(ours, eager, expert_step(model.double()), strict=True):
        check_error("experts", mine.double(), truth, theirs.double())


def test_nothing_of_the_size_of_a_stack_is_made():
    model = mixture("olmoe", dtype=torch.float32, sizes={"num_experts": 32})
    (stack, _), *_ = experts.mixtures(model)
    with Largest() as plain:
        expert_step(model)
    with experts.grouped(model), Largest() as ours:
        expert_step(model)
    assert plain.numbers >= stack.gate_up_proj.numel() > 4 * ours.numbers


class Largest(TorchDispatchMode):
    """Follows how large the largest tensor is that an operation makes."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made._base is None and "view" not in str(function):
            storage = made.untyped_storage().data_ptr()
            inputs = [t.untyped_storage().data_ptr() for t in args if isinstance(t, torch.Tensor)]
            if storage not in inputs:
                self.numbers = max(self.numbers, made.numel())
        return made
