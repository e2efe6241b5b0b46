"""The curves are drawn whatever the losses are."""

import math
import xml.etree.ElementTree as ET

import pytest

from strop.runs.loss_curve import RunningMean, smoothed
from strop.runs.report.charts import MOST_POINTS
from strop.runs.report.curves import figures


def log_of(losses, held_out=((0, 3.0),)):
    """Return lines of a log."""
    return [
        *({"step": step, "loss": loss} for step, loss in losses),
        *({"step": step, "held_out_loss": loss} for step, loss in held_out),
    ]


@pytest.mark.parametrize(
    "losses",
    [
        [(1, 2.0)],
        [(1, 0.0), (2, 0.0)],
        [(1, 2.0), (2, math.nan)],
        [(1, -1.0), (2, 5e3)],
        [(1, 0.7), (2, 0.7)],
    ],
)
def test_any_losses_give_a_well_formed_picture(losses):
    (figure,) = figures(log_of(losses), None)
    root = ET.fromstring(figure.picture)
    assert root.tag == "svg"
    assert all("nan" not in value for part in root.iter() for value in part.attrib.values())


def test_a_long_run_does_not_make_a_long_page():
    (figure,) = figures(log_of((i, 1.0 / (i + 1)) for i in range(100_000)), None)
    assert len(figure.picture) < 40 * MOST_POINTS
    assert len(figure.rows) < 20


def test_a_constant_stays_itself_when_smoothed():
    assert [v for _, v in smoothed([(i, 2.5) for i in range(50)])] == pytest.approx([2.5] * 50)


def test_the_mean_of_few_losses_is_theirs_whatever_the_first_was():
    mean = RunningMean()
    means = [mean.update(loss) for loss in (4.0, 1.0, 1.0, 1.0)]
    assert means[:2] == [4.0, pytest.approx((0.9 * 4 + 1) / 1.9)]
    assert means == [m for _, m in smoothed(enumerate((4.0, 1.0, 1.0, 1.0)))]
