"""What the gradient noise of a run's steps says about its batch."""

import pytest

from strop.runs.noise_scale import noise_scale, noise_scale_curve
from strop.runs.report.curves import noise_figures


def log(signals, noise):
    return [
        {"step": i, "loss": 1.0, "gradient_signal": signal, "gradient_noise": noise}
        for i, signal in enumerate(signals, 1)
    ]


@pytest.mark.parametrize(
    ("noise", "rows", "words"),
    [
        (10.0, 80, "about 80 rows, over the batch of 8: a step is mostly chance"),
        (1.0, 8, "about 8 rows, near the batch of 8, which suits"),
        (0.1, 0.8, "about 1 rows, under the batch of 8: smaller ones"),
    ],
)
def test_the_scale_is_set_beside_the_batch(noise, rows, words):
    lines = log([0.9, 1.1] * 8, noise)
    scale = noise_scale(lines, 8)
    assert scale.rows == pytest.approx(rows)
    assert scale.steps == 8
    assert words in scale.sentence
    (figure,) = noise_figures(lines, 8)
    assert words in figure.title
    assert noise_scale_curve(lines, 8)[-1][1] == pytest.approx(rows, rel=0.02)


def test_a_signal_that_does_not_stand_out_is_said():
    scale = noise_scale(log([3.0, -3.1] * 8, 5.0), 4)
    assert "far above the batch of 4" in scale.sentence


@pytest.mark.parametrize("lines", [log([1.0] * 7, 1.0), [{"step": 1, "loss": 2.0}] * 20])
def test_few_steps_and_steps_in_one_piece_say_nothing(lines):
    assert noise_scale(lines, 8) is None
    assert noise_figures(lines, 8) == []
