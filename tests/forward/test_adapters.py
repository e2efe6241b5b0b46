"""PEFT's own layers beside what strop makes of them."""

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from strop.forward.decoder import adapters
from strop.ops.lora_linear import eager, lora_linear
from strop.ops.lora_linear.parts import Workspace

KINDS = {
    "lora": {},
    "rank-stabilised": {"use_rslora": True},
    "dora": {"use_dora": True},
    "dropout": {"lora_dropout": 0.3},
}


def adapted(bias=True, **settings):
    """Return PEFT's layer of 12 inputs and 9 outputs in float64, its adapter not at zero."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(12, 9, bias=bias)}).double()
    config = LoraConfig(r=5, lora_alpha=8, target_modules=["layer"], **settings)
    layer = inject_adapter_in_model(config, model)["layer"].double()
    for name, parameter in layer.named_parameters():
        if "magnitude" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
        elif "lora_" in name:
            nn.init.normal_(parameter)
    return layer


def both_ways(layer):
    """Return output and gradients of strop's operation and of PEFT's layer."""
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(20, 12, generator=rng, dtype=torch.float64).requires_grad_()
    dy = torch.randn(20, 9, generator=rng, dtype=torch.float64)
    parts = adapters.read(layer)
    ours, theirs = lora_linear(x, parts, impl="eager"), layer(x)
    inputs = [x, *(t for t in parts.trained if t.requires_grad)]
    return [(y, *torch.autograd.grad(y, inputs, dy)) for y in (ours, theirs)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_peft_s_layer(kind, bias):
    layer = adapted(bias, **KINDS[kind]).eval()
    assert adapters.obstacle(layer) is None
    ours, theirs = both_ways(layer)
    assert len(ours) == (5 if kind == "dora" else 4)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("how", ["switched off", "merged"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_that_is_not_in_use_is_not_read(kind, how):
    layer = adapted(**KINDS[kind]).eval()
    if how == "merged":
        layer.merge()
    else:
        layer.enable_adapters(False)
    assert adapters.read(layer).a is None
    for a, b in zip(*both_ways(layer), strict=True):
        torch.testing.assert_close(a, b)


def test_dropout_counts_only_while_training():
    layer = adapted(lora_dropout=0.3)
    assert adapters.read(layer).dropout == 0.3
    assert adapters.drops_out(layer)
    assert adapters.read(layer.eval()).dropout == 0
    assert not adapters.drops_out(layer)


class Drawn(nn.Dropout):
    """Dropout whose mask was drawn before."""

    def __init__(self, share, mask):
        super().__init__(share)
        self.mask = mask

    def forward(self, x):
        return x * self.mask / (1 - self.p)


@pytest.mark.parametrize("rank_stabilised", [True, False])
def test_with_the_same_mask_dropout_does_what_peft_s_does(rank_stabilised):
    layer = adapted(lora_dropout=0.3, use_rslora=rank_stabilised)
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(20, 12, generator=rng, dtype=torch.float64).requires_grad_()
    dy = torch.randn(20, 9, generator=rng, dtype=torch.float64)
    parts = (adapters.read(layer),)
    masks = eager.draw_masks(x, parts)
    layer.lora_dropout["default"] = Drawn(0.3, masks[0])
    y = layer(x)
    expected = torch.autograd.grad(y, [x, *parts[0].trained], dy)
    with torch.no_grad():
        torch.testing.assert_close(eager.forward(x, parts, masks, Workspace()), y)
        dx = eager.input_gradient(dy, parts, masks, Workspace())
        gradients = eager.adapter_gradients(dy, x, parts, masks, Workspace())
    for ours, theirs in zip([dx, *gradients], expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_dropout_beside_dora_is_left_to_peft_while_training():
    layer = adapted(lora_dropout=0.3, use_dora=True)
    assert adapters.obstacle(layer) == "its adapter drops inputs at random beside DoRA"
    assert adapters.obstacle(layer.eval()) is None


def test_the_folded_weight_is_peft_s_merged_one():
    layer = adapted().eval()
    folded = adapters.folded_weight(layer)
    layer.merge()
    torch.testing.assert_close(folded, layer.base_layer.weight)


def test_what_cannot_be_read_says_why():
    assert adapters.obstacle(nn.Embedding(3, 3)) == "it is a Embedding"
    assert adapters.obstacle(adapted(lora_bias=True)) == "its adapter has a bias"
    trained = adapted()
    trained.base_layer.bias.requires_grad_()
    assert adapters.obstacle(trained) == "its base weight or bias is trained"
