import pytest
import torch

from strop.core import env
from strop.core.errors import ShapeError, UnsupportedError
from strop.ops.rms_norm import IMPLS, eager, rms_norm
from strop.ops.rms_norm.cases import TESTED, Case
from strop.testing import check_against_reference, check_documented_shapes, saved_bytes


@pytest.mark.parametrize("case", TESTED, ids=str)
@pytest.mark.parametrize("impl", [i.name for i in IMPLS if i.name != "reference"])
def test_agrees_with_reference(impl, case, device_for):
    device = device_for(impl)
    check_against_reference(rms_norm, impl, *case.inputs(device), settings=case.settings(device))


@pytest.mark.parametrize("case", TESTED, ids=str)
def test_agrees_with_reference_without_a_compiler(case, monkeypatch):
    monkeypatch.setattr(env, "NATIVE", False)
    settings = case.settings("cpu")
    check_against_reference(rms_norm, "eager", *case.inputs("cpu"), settings=settings)


def test_docstring_tells_the_shapes():
    x, weight = Case(3, 4).inputs("cpu")
    check_documented_shapes(rms_norm, {"x": x, "weight": weight}, rms_norm(x, weight))


@pytest.mark.parametrize("impl", [i.name for i in IMPLS])
def test_row_of_zeros_stays_finite(impl, device_for):
    x = torch.zeros(1, 8, device=device_for(impl)).requires_grad_()
    y = rms_norm(x, torch.ones(8, device=x.device), impl=impl)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


def test_rejects_a_weight_of_another_width():
    with pytest.raises(ShapeError, match=r"got x \[2, 8\] and weight \[7\]"):
        rms_norm(torch.zeros(2, 8), torch.ones(7))


def test_an_unknown_implementation_is_named():
    with pytest.raises(UnsupportedError, match="impl='gpu' is not known"):
        rms_norm(torch.zeros(2, 8), torch.ones(8), impl="gpu")


@pytest.mark.skipif(env.INTERPRETED, reason="the interpreter takes CPU tensors")
def test_a_kernel_named_by_impl_is_not_replaced():
    stands_in_the_way = "(it needs tensors on a GPU, one is on cpu|triton is not installed)"
    with pytest.raises(UnsupportedError, match=f"'triton' cannot run here: {stands_in_the_way}"):
        rms_norm(torch.zeros(2, 8), torch.ones(8), impl="triton")


@pytest.mark.parametrize("needs", [(True, False), (False, True)], ids=["x", "weight"])
@pytest.mark.parametrize("impl", [i.name for i in IMPLS])
def test_gives_only_the_gradients_that_are_needed(impl, needs, device_for):
    tensors = Case(5, 123).inputs(device_for(impl))
    for tensor, needed in zip(tensors, needs, strict=True):
        tensor.requires_grad_(needed)
    rms_norm(*tensors, impl=impl).sum().backward()
    assert tuple(t.grad is not None for t in tensors) == needs


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_keeps_only_its_inputs_and_one_scale_per_row(dtype):
    x, weight = Case(256, 512, dtype).inputs("cpu")
    x.requires_grad_()
    weight.requires_grad_()
    saved = saved_bytes(lambda: rms_norm(x, weight))
    assert saved == x.nbytes + weight.nbytes + 4 * 256


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("target", ["dy", "x", "view"])
def test_the_gradient_may_be_written_over_what_it_is_computed_from(dtype, target):
    case = Case(7, 40, dtype, H=3, beside=11)
    x, weight = case.inputs("cpu")
    dy = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    _, scale = eager.forward(x, weight, 1e-6, False)
    expected, _ = eager.backward(dy, x, weight, scale, False)
    out = {"dy": dy, "x": x, "view": torch.empty(7, 3, 50, dtype=dtype)[..., 3:43]}[target]
    dx, _ = eager.backward(dy, x, weight, scale, False, out=out)
    assert dx is out
    assert torch.equal(dx, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_result_may_be_written_over_the_input(dtype):
    x, weight = Case(7, 40, dtype, H=3, beside=11).inputs("cpu")
    expected, _ = eager.forward(x, weight, 1e-6, False)
    y, _ = eager.forward(x, weight, 1e-6, False, out=x)
    assert y is x
    assert torch.equal(y, expected)


def test_compiles_into_one_graph():
    compiled = torch.compile(rms_norm, fullgraph=True, backend="eager")
    x, weight = Case(5, 123).inputs("cpu")
    torch.testing.assert_close(compiled(x, weight), rms_norm(x, weight))
