"""Q8_0 keeps a small update: along the inputs that it reads, little is rounded wrong."""

import pytest
import torch
from gguf import GGMLQuantizationType, quants

from strop.exporting.gguf.q8_0 import ErrorFeedback
from strop.exporting.gguf.types import decode, encode
from strop.exporting.weights.sketches import fault, projection, sketch_of
from strop.exporting.weights.tuned import Update
from strop.ops.dequantize import dequantize
from strop.quantization.formats import FORMATS
from strop.quantization.matrix import quantize

Q8_0 = GGMLQuantizationType.Q8_0


def tuned(size=0.001, on_levels=True):
    """Return a base, of 16 levels or of any, and an update, a sixth of a step of Q8_0 wide."""
    torch.manual_seed(0)
    base = torch.randn(256, 512)
    if on_levels:
        base = dequantize(quantize(base, FORMATS["4b64"]))
    return base, Update(torch.randn(4, 512), torch.randn(256, 4), size)


def nearest(weight):
    return decode(encode(weight, Q8_0), Q8_0)


def rounded(weight, update):
    return decode(ErrorFeedback(update).q8_0(weight), Q8_0)


def share(stored, base, update):
    """Return how much of the update is in the stored weight beyond what is in the stored base."""
    added = update.joined(torch.zeros_like(base), 0)
    return float(((stored - nearest(base)) * added).sum() / added.square().sum())


def test_an_update_smaller_than_a_step_is_there():
    base, update = tuned()
    weight = update.joined(base, 0)
    assert share(nearest(weight), base, update) < 0.8
    assert abs(share(rounded(weight, update), base, update) - 1) < 0.05


@pytest.mark.parametrize("on_levels", [True, False])
def test_what_the_update_reads_sees_a_small_part_of_the_errors(on_levels):
    base, update = tuned(on_levels=on_levels)
    weight = update.joined(base, 0)
    plain, ours = (stored - weight for stored in (nearest(weight), rounded(weight, update)))
    assert (ours @ update.A.T).square().sum() < 0.05 * (plain @ update.A.T).square().sum()
    if not on_levels:  # levels lie nearer to codes than other weights do, which feedback gives up
        assert ours.square().sum() < 1.1 * plain.square().sum()


def test_it_is_error_feedback_by_the_inputs_of_the_update():
    base, update = tuned()
    weight = update.joined(base, 0)[:16]
    mixed = torch.linalg.qr(update.B).R @ update.A
    mixed /= mixed.square().sum(0).mean().sqrt()
    gram = (mixed.T @ mixed).double() + torch.eye(512)
    feedback = torch.linalg.cholesky(torch.linalg.inv(gram), upper=True)
    scale = (weight.view(16, -1, 32).abs().amax(-1) / 127).half().double()
    step = scale.repeat_interleave(32, 1)
    columns, codes = weight.double(), torch.empty(16, 512)
    for j in range(512):
        codes[:, j] = (columns[:, j] / step[:, j]).round()
        error = (columns[:, j] - codes[:, j] * step[:, j]) / feedback[j, j]
        columns[:, j:] -= error[:, None] * feedback[j, j:]
    same = rounded(weight, update) == (codes * step).float()
    assert same.float().mean() > 0.999  # some numbers lie halfway but for rounding


def test_the_bytes_are_those_of_q8_0_however_rows_are_cut():
    base, update = tuned()
    whole = ErrorFeedback(update).q8_0(base)
    assert whole.shape == quants.quantize(base.numpy(), Q8_0).shape
    parts = ErrorFeedback(update)
    assert (parts.q8_0(base[:100]) == whole[:100]).all()
    assert (parts.q8_0(base[100:]) == whole[100:]).all()


def test_without_an_update_in_effect_weights_take_their_nearest_codes():
    base, update = tuned(on_levels=False)
    untrained = Update(update.A, torch.zeros_like(update.B), 1.0)
    scale = (base.view(256, -1, 32).abs().amax(-1, keepdim=True) / 127).half().float()
    codes = (base.view(256, -1, 32) / scale).round().clamp(-127, 127)
    ours, least = (
        (of - base).abs() for of in (rounded(base, untrained), (codes * scale).view_as(base))
    )
    torch.testing.assert_close(ours, least)  # two lie halfway


def test_an_update_that_float16_swallows_in_part_is_no_fault_and_a_missing_one_is():
    torch.manual_seed(0)
    base = torch.randn(256, 512).half().float()
    small, large = (size * torch.randn(256, 4) @ torch.randn(4, 512) for size in (1e-4, 1e-2))
    for update, named in ((small, False), (large, True)):
        sketches = {"a weight": sketch_of(base, update)}
        half = (base + update).half().float()
        assert fault("a weight", projection(half), "F16", sketches) is None
        missing = fault("a weight", projection(base), "F16", sketches)
        assert (missing is not None and "update is missing" in missing) == named


def test_a_block_of_zeros_stays_zero():
    _, update = tuned()
    assert not rounded(torch.zeros(2, 512), update).any()
