import pytest
import torch

from strop.core.errors import ShapeError, UnsupportedError
from strop.ops.round_columns import round_columns
from strop.ops.round_columns.cases import TESTED, Case


@pytest.mark.parametrize("case", TESTED, ids=str)
def test_chooses_the_codes_and_scales_of_the_reference(case):
    inputs = case.inputs("cpu")
    got = round_columns(*inputs, impl="cpu")
    expected = round_columns(*inputs, impl="reference")
    assert torch.equal(got.codes, expected.codes)
    assert torch.equal(got.scales, expected.scales)
    torch.testing.assert_close(got.errors, expected.errors)


@pytest.mark.parametrize("impl", ["cpu", "reference"])
def test_the_group_is_left_as_it_was(impl):
    inputs = Case(16, 9, 4, True).inputs("cpu")
    before = inputs[0].clone()
    round_columns(*inputs, impl=impl)
    assert torch.equal(inputs[0], before)


def test_passing_errors_on_leaves_less_of_the_output_wrong():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(500, 32, generator=rng) @ torch.randn(32, 32, generator=rng)
    gram = x.T @ x / len(x)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram.double()))
    feedback = torch.linalg.cholesky(inverse, upper=True).float()
    group, _, _, factor, *levels = Case(32, 50, 4, True).inputs("cpu")

    def wrong(rounded):
        table, steps, _ = levels
        stored = table[rounded.codes.int()] * (steps[rounded.scales.int()] * factor)
        rest = (group - stored).T
        return float((rest @ gram * rest).sum())

    plain = wrong(round_columns(group, gram.diagonal(), None, factor, *levels))
    fed = wrong(round_columns(group, feedback.diagonal() ** -2, feedback, factor, *levels))
    assert fed < plain


def test_tensors_that_do_not_fit_are_named_with_sizes():
    group, importance, *rest = Case(16, 9, 4, False).inputs("cpu")
    with pytest.raises(ShapeError, match=r"got \[16, 9\], \[15\], None and \[9\]"):
        round_columns(group, importance[1:], *rest)
    odd = torch.tensor([-2.0, -1, 0, 1, 3, 4, 5, 6, 7])
    with pytest.raises(UnsupportedError, match="not evenly spaced, table has 9"):
        round_columns(group, importance, *rest[:2], odd, *rest[3:], impl="cpu")
    with pytest.raises(UnsupportedError, match="it needs float32, group is"):
        round_columns(group.double(), importance, *rest, impl="cpu")
