import pytest
import torch

from strop.testing import check_against_reference, check_documented_shapes, saved_bytes


class Scaled(torch.autograd.Function):
    """Twice the input; the gradient is off by a settable factor."""

    @staticmethod
    def forward(ctx, x, fault):
        ctx.fault = fault
        return x * 2

    @staticmethod
    def backward(ctx, dy):
        return dy * 2 * ctx.fault, None


def twice(x, which=None, *, fault="", impl):
    """Double.

    Args:
        x: [N, D] numbers.
        which: [N] rows.

    Returns:
        [N, 2D] numbers.
    """
    y = Scaled.apply(x, 1.001 if fault == "gradient" and impl == "ours" else 1)
    if impl == "ours" and fault == "output":
        y = y + 0.001
    if impl == "ours" and fault == "input":
        x.data[0, 0] += 1
    if impl == "ours" and fault == "hole":
        y = y.masked_fill(torch.arange(y.shape[-1]) == 3, float("nan"))
    return y


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("output", "ours, output: rms error"),
        ("gradient", "ours, gradient of x: rms error"),
        ("input", "ours changed an input"),
        ("hole", "ours, output: NaN or inf"),
    ],
)
def test_a_fault_is_noticed_and_named(fault, complaint, dtype):
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    with pytest.raises(AssertionError, match=complaint):
        check_against_reference(twice, "ours", x, settings={"fault": fault})


def test_whole_numbers_need_no_gradient():
    check_against_reference(twice, "ours", torch.randn(8, 16), torch.arange(8))


def test_documented_shapes_are_compared_with_real_ones():
    x, rows = torch.zeros(3, 4), torch.arange(3)
    check_documented_shapes(twice, {"x": x, "which": rows}, torch.zeros(3, 8))
    with pytest.raises(AssertionError, match="Returns: D is 5 here"):
        check_documented_shapes(twice, {"x": x, "which": rows}, torch.zeros(3, 10))


def test_a_view_counts_with_the_memory_it_keeps_alive():
    x = torch.zeros(4, 100, requires_grad=True)
    assert saved_bytes(lambda: x[:, 0] * x[:, 1]) == x.nbytes
