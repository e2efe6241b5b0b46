"""The loss curve is drawn whatever the losses are."""

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.runs.loss_curve import RAW_POINTS, RunningMean, curve, nice_ticks, smoothed


@pytest.mark.parametrize(
    "losses",
    [[(1, 2.0)], [(1, 0.0), (2, 0.0)], [(1, 2.0), (2, math.nan)], [(1, -1.0), (2, 5e3)]],
)
def test_any_losses_give_well_formed_svg(losses):
    root = ET.fromstring(curve(losses, [(0, 3.0)]))
    assert root.tag == "svg"
    assert "nan" not in ET.tostring(root, "unicode")


def test_a_long_run_does_not_make_a_long_page():
    steps = [(i, 1.0 / (i + 1)) for i in range(100_000)]
    assert len(curve(steps, [])) < 40 * RAW_POINTS


def test_a_constant_stays_itself_when_smoothed():
    assert [v for _, v in smoothed([(i, 2.5) for i in range(50)])] == pytest.approx([2.5] * 50)


def test_the_mean_of_few_losses_is_theirs_whatever_the_first_was():
    mean = RunningMean()
    means = [mean.update(loss) for loss in (4.0, 1.0, 1.0, 1.0)]
    assert means[:2] == [4.0, pytest.approx((0.9 * 4 + 1) / 1.9)]
    assert means == [m for _, m in smoothed(enumerate((4.0, 1.0, 1.0, 1.0)))]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_enclose_the_values_and_are_few(low, span):
    ticks = nice_ticks(low, low + span)
    slack = 1e-6 * max(abs(low), span)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 8
