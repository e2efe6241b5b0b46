import pytest
import torch

from strop.core.errors import ShapeError, UnsupportedError
from strop.ops.mixed_product import IMPLS, cpu, mixed_product
from strop.ops.mixed_product.cases import TESTED, Case
from strop.testing import check_documented_shapes, check_error


@pytest.mark.parametrize("case", TESTED, ids=str)
@pytest.mark.parametrize("impl", [i.name for i in IMPLS])
def test_errs_no_more_than_a_product_of_widened_matrices(impl, case, device_for):
    left, right = case.inputs(device_for(impl))
    if impl == "cpu" and (obstacle := cpu.obstacle(left, right)):
        pytest.skip(obstacle)
    got = mixed_product(left, right, scale=0.7, impl=impl)
    yardstick = mixed_product(left, right, scale=0.7, impl="reference")
    exact = mixed_product(left.double(), right.double(), scale=0.7, impl="reference")
    assert (got.dtype, got.shape) == (torch.float32, exact.shape)
    check_error(impl, got.double(), exact, yardstick.double())


def test_docstring_tells_the_shapes():
    left, right = Case(3, 4, 2).inputs("cpu")
    named = {"left": left, "right": right}
    check_documented_shapes(mixed_product, named, mixed_product(left, right))


def test_rejects_shapes_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"got left \[2, 3\] and right \[4, 5\]"):
        mixed_product(torch.zeros(2, 3), torch.zeros(4, 5))


def test_there_is_no_kernel_for_one_format():
    with pytest.raises(UnsupportedError, match="a library multiplies matrices of one format"):
        mixed_product(torch.zeros(2, 3), torch.zeros(3, 2), impl="triton")
