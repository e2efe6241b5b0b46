import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from strop.layers.quantized_linear import QuantizedLinear
from strop.ops.dequantize import dequantize
from strop.ops.dequantize.cases import Case
from strop.ops.lora_linear import lora_linear
from strop.ops.lora_linear.parts import LinearParts


def layer_of(case, bias=False):
    weight = case.weight()
    layer = QuantizedLinear(
        (case.E, case.D), case.bits, case.group, table=weight.table,
        scale_table=weight.scale_table, bias=bias,
    )  # fmt: skip
    layer.take(weight)
    if bias:
        layer.bias = nn.Parameter(torch.randn(case.E), requires_grad=False)
    return layer


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_computes_what_a_dense_layer_computes_with_a_gradient_for_the_input(bits, dtype):
    layer = layer_of(Case(24, 64, bits, 32), bias=True)
    x = torch.randn(2, 5, 64).to(dtype).requires_grad_()
    y = layer(x)
    (got,) = torch.autograd.grad(y.square().sum(), x)
    dense = dequantize(layer.packed, dtype=dtype)
    expected = F.linear(x, dense) + layer.bias.to(dtype)
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(got, expected_gradient)


def test_is_a_frozen_linear_layer_that_lora_linear_takes_packed():
    layer = layer_of(Case(24, 64))
    assert isinstance(layer, nn.Linear)
    assert not any(p.requires_grad for p in layer.parameters())
    x, a, b = torch.randn(3, 64), torch.randn(2, 64), torch.randn(24, 2)
    packed = lora_linear(x, LinearParts(layer.packed, None, a, b, 0.5))
    dense = lora_linear(x, LinearParts(dequantize(layer.packed), None, a, b, 0.5))
    torch.testing.assert_close(packed, dense)


def test_a_cast_of_the_model_leaves_scales_and_tables_as_they_were():
    layer = layer_of(Case(24, 64))
    before = dequantize(layer.packed)
    layer.to(torch.bfloat16)
    assert torch.equal(dequantize(layer.packed), before)


def test_an_adapter_cannot_be_merged_into_the_codes_unnoticed():
    layer = layer_of(Case(24, 64))
    with pytest.raises(RuntimeError):
        layer.weight.data += torch.randn(24, 64)


def test_the_state_survives_a_file(tmp_path):
    case = Case(24, 64, 5, 32)
    layer, other = layer_of(case), layer_of(Case(24, 64, 5, 32))
    other.weight.data.zero_()
    save_file(layer.state_dict(), tmp_path / "w.safetensors")
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert torch.equal(dequantize(layer.packed), dequantize(other.packed))
    assert layer.stored_bytes == 24 * 64 * 5 // 8 + 48 + 4
