import pytest
import torch

from strop.core import env
from strop.core.errors import ShapeError, UnsupportedError
from strop.ops.rope import IMPLS, eager, rope
from strop.ops.rope.cases import TESTED, Case
from strop.testing import check_against_reference, check_documented_shapes, saved_bytes


def check(impl, x, cos, sin):
    def turned(x, *, impl):
        return rope(x, cos.to(x.dtype), sin.to(x.dtype), impl=impl)

    check_against_reference(turned, impl, x)


@pytest.mark.parametrize("case", TESTED, ids=str)
@pytest.mark.parametrize("impl", [i.name for i in IMPLS if i.name != "reference"])
def test_agrees_with_reference(impl, case, device_for):
    check(impl, *case.inputs(device_for(impl)))


@pytest.mark.parametrize("case", TESTED, ids=str)
def test_agrees_with_reference_without_a_compiler(case, monkeypatch):
    monkeypatch.setattr(env, "NATIVE", False)
    check("eager", *case.inputs("cpu"))


def test_docstring_tells_the_shapes():
    x, cos, sin = Case(3, 2, 10).inputs("cpu")
    check_documented_shapes(rope, {"x": x, "cos": cos, "sin": sin}, rope(x, cos, sin))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_inverse_undoes_a_rotation_of_a_view_and_touches_nothing_beside_it(dtype):
    buffer = torch.randn(9, 40, generator=torch.Generator().manual_seed(0), dtype=dtype)
    before = buffer.clone()
    x = buffer[:, 5:35].view(9, 3, 10)
    _, cos, sin = Case(9, 3, 10, dtype, P=4).inputs("cpu")
    assert eager.rotate_(x, cos, sin) is x
    assert not torch.equal(buffer, before)
    untouched = torch.cat((buffer[:, :5], buffer[:, 35:], x[..., 8:].flatten(1)), 1)
    old = before[:, 5:35].view(9, 3, 10)
    assert torch.equal(
        untouched, torch.cat((before[:, :5], before[:, 35:], old[..., 8:].flatten(1)), 1)
    )
    eager.rotate_(x, cos, sin, inverse=True)
    torch.testing.assert_close(buffer, before)


def test_angles_get_no_gradient_and_no_rotation_of_the_caller_s_tensor():
    x, cos, sin = Case(4, 2, 6).inputs("cpu")
    before = x.clone()
    rope(x.requires_grad_(), cos.requires_grad_(), sin.requires_grad_()).sum().backward()
    assert torch.equal(x.detach(), before)
    assert x.grad is not None
    assert cos.grad is None
    assert sin.grad is None


def test_keeps_only_the_angles():
    x, cos, sin = Case(64, 3, 32).inputs("cpu")
    x.requires_grad_()
    assert saved_bytes(lambda: rope(x, cos, sin)) == cos.nbytes + sin.nbytes


def test_rejects_more_pairs_than_a_head_has():
    with pytest.raises(ShapeError, match=r"got x \[2, 3, 8\], cos \[2, 5\] and sin \[2, 5\]"):
        rope(torch.zeros(2, 3, 8), torch.ones(2, 5), torch.ones(2, 5))


def test_an_unknown_implementation_is_named():
    with pytest.raises(UnsupportedError, match="impl='gpu' is not known"):
        rope(torch.zeros(2, 3, 8), torch.ones(2, 4), torch.ones(2, 4), impl="gpu")


def test_compiles_into_one_graph():
    compiled = torch.compile(rope, fullgraph=True, backend="eager")
    inputs = Case(5, 3, 10).inputs("cpu")
    torch.testing.assert_close(compiled(*inputs), rope(*inputs))
