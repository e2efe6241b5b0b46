import pytest
import torch

from strop.core import env
from strop.core.errors import ShapeError, UnsupportedError
from strop.ops.glu import IMPLS, eager, glu
from strop.ops.glu.cases import ACTIVATIONS, TESTED, Case
from strop.testing import check_against_reference, check_documented_shapes, saved_bytes


@pytest.mark.parametrize("case", TESTED, ids=str)
@pytest.mark.parametrize("impl", [i.name for i in IMPLS if i.name != "reference"])
def test_agrees_with_reference(impl, case, device_for):
    device = device_for(impl)
    check_against_reference(glu, impl, *case.inputs(device), settings=case.settings(device))


@pytest.mark.parametrize("case", TESTED, ids=str)
def test_agrees_with_reference_without_a_compiler(case, monkeypatch):
    monkeypatch.setattr(env, "NATIVE", False)
    settings = case.settings("cpu")
    check_against_reference(glu, "eager", *case.inputs("cpu"), settings=settings)


def test_docstring_tells_the_shapes():
    (gate_up,) = Case(3, 4, "silu").inputs("cpu")
    check_documented_shapes(glu, {"gate_up": gate_up}, glu(gate_up, "silu"))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_far_from_zero_the_gate_is_open_or_shut_and_the_gradient_finite(activation):
    gate = torch.tensor([-1e10, -1000.0, -100.0, -20.0, 20.0, 100.0, 1000.0, 1e10])
    gate_up = torch.stack((gate, torch.ones(8)), 1).requires_grad_()
    act = glu(gate_up, activation)
    act.sum().backward()
    torch.testing.assert_close(act[:, 0].detach(), gate.clamp(min=0), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gate_up.grad[:, 0], (gate > 0).float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_gradient_may_be_written_over_the_input(activation, dtype):
    (gate_up,) = Case(9, 53, activation, dtype, beside=3).inputs("cpu")
    dact = torch.randn(9, 53, generator=torch.Generator().manual_seed(1)).to(dtype)
    act, again, out = (torch.empty(9, 53, dtype=dtype) for _ in range(3))
    expected = eager.backward(dact, gate_up, activation, act=act)
    assert torch.equal(act, eager.forward(gate_up, activation))
    assert eager.forward(gate_up, activation, out=out) is out
    assert torch.equal(out, act)
    assert torch.equal(eager.backward(dact, gate_up, activation), expected)
    dgate_up = eager.backward(dact, gate_up, activation, act=again, overwrite=True)
    assert dgate_up is gate_up
    assert torch.equal(dgate_up, expected)
    assert torch.equal(again, act)


def test_keeps_only_its_input():
    (gate_up,) = Case(64, 32, "silu").inputs("cpu")
    gate_up.requires_grad_()
    assert saved_bytes(lambda: glu(gate_up, "silu")) == gate_up.nbytes


def test_rejects_an_odd_number_of_columns():
    with pytest.raises(ShapeError, match=r"got \[2, 7\]"):
        glu(torch.zeros(2, 7), "silu")


def test_an_unknown_activation_is_named():
    with pytest.raises(UnsupportedError, match="no activation 'relu'; it has 'silu'"):
        glu(torch.zeros(2, 8), "relu")


def test_an_unknown_implementation_is_named():
    with pytest.raises(UnsupportedError, match="impl='gpu' is not known"):
        glu(torch.zeros(2, 8), "silu", impl="gpu")


def test_compiles_into_one_graph():
    compiled = torch.compile(glu, fullgraph=True, backend="eager")
    (gate_up,) = Case(5, 12, "silu").inputs("cpu")
    torch.testing.assert_close(compiled(gate_up, "silu"), glu(gate_up, "silu"))
