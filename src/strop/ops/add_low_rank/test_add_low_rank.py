import pytest
import torch

from strop.core.errors import ShapeError, UnsupportedError
from strop.ops.add_low_rank import IMPLS, add_low_rank_, cpu
from strop.ops.add_low_rank.cases import TESTED, Case
from strop.testing import check_against_reference, check_documented_shapes


def added(out, left, right, *, impl):
    """Add to a copy; the shared check wants a graph, so a zero that has one goes with it."""
    tensors = out, left, right
    total = add_low_rank_(*(t.detach().clone() for t in tensors), scale=0.7, impl=impl)
    return total + sum(t.sum() - t.detach().sum() for t in tensors).to(total.dtype)


@pytest.mark.parametrize("case", [c for c in TESTED if c.adapter_dtype != torch.bfloat16], ids=str)
@pytest.mark.parametrize("impl", [i.name for i in IMPLS if i.name != "reference"])
def test_agrees_with_reference(impl, case, device_for):
    inputs = case.inputs(device_for(impl))
    if impl == "cpu" and (obstacle := cpu.obstacle(*inputs)):
        pytest.skip(obstacle)
    check_against_reference(added, impl, *inputs)


def test_in_one_16_bit_format_agrees_with_reference():
    check_against_reference(added, "eager", *Case(64, 96, 8, *2 * [torch.bfloat16]).inputs("cpu"))


@pytest.mark.parametrize("impl", [i.name for i in IMPLS])
@pytest.mark.parametrize("transposed", [True, False])
def test_writes_where_the_result_lies_and_nowhere_else(impl, transposed, device_for):
    dtype = torch.bfloat16 if impl == "cpu" else torch.float16
    case = Case(67, 131, 5, dtype, beside=9, transposed=transposed)
    out, left, right = case.inputs(device_for(impl))
    buffer = out._base
    before = buffer.clone()
    assert add_low_rank_(out, left, right, impl=impl) is out
    assert torch.equal(buffer[:, 131:], before[:, 131:])
    assert not torch.equal(out, before[:, :131])


def test_docstring_tells_the_shapes():
    out, left, right = Case(3, 4, 2).inputs("cpu")
    named = {"out": out, "left": left, "right": right}
    check_documented_shapes(add_low_rank_, named, add_low_rank_(out, left, right))


def test_rejects_shapes_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"got out \[2, 3\], left \[2, 4\] torch.float32"):
        add_low_rank_(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(5, 3))


def test_an_unknown_implementation_is_named():
    with pytest.raises(UnsupportedError, match="has 'triton', 'cpu', 'eager', 'reference'"):
        add_low_rank_(*Case(1, 1, 1).inputs("cpu"), impl="gpu")
