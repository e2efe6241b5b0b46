"""Q8_0 keeps a small update of weights that lie on few levels."""

import torch
from gguf import GGMLQuantizationType, quants

from strop.export.dither import Dither
from strop.export.fingerprints import fault, image, print_of
from strop.export.gguf_types import decode, encode
from strop.ops.dequantize import dequantize
from strop.quantization.formats import FORMATS
from strop.quantization.matrix import quantize

Q8_0 = GGMLQuantizationType.Q8_0


def tuned(size=0.001):
    """Return a base of 16 levels and an update, by itself a sixth of a step of Q8_0 wide."""
    torch.manual_seed(0)
    base = dequantize(quantize(torch.randn(256, 512), FORMATS["4b64"]))
    return base, torch.randn(256, 4) @ torch.randn(4, 512) * size


def share(stored, base, update):
    """Return how much of the update is in the stored weight beyond what is in the stored base."""
    return float(((stored - base) * update).sum() / update.square().sum())


def test_an_update_smaller_than_a_step_is_there_on_average():
    base, update = tuned()
    nearest = decode(encode(base + update, Q8_0), Q8_0)
    assert share(nearest, base, update) < 0.8
    by_chance = decode(Dither("a weight").q8_0(base + update, base), Q8_0)
    assert abs(share(by_chance, base, update) - 1) < 0.05


def test_beside_a_small_update_the_base_is_at_its_nearest_codes():
    base, update = tuned(0.0002)

    def error(stored):
        return float((decode(stored, Q8_0) - base - update).square().mean())

    nearest = error(encode(base + update, Q8_0))
    assert error(Dither("a weight").q8_0(base + update, base)) < 1.4 * nearest
    assert error(Dither("a weight").q8_0(base + update, torch.zeros_like(base))) > 1.8 * nearest


def test_the_bytes_are_those_of_q8_0_and_no_error_exceeds_a_step_and_a_half():
    base, update = tuned()
    stored = Dither("a weight").q8_0(base + update, base)
    assert stored.shape == quants.quantize(base.numpy(), Q8_0).shape
    step = (base + update).view(-1, 32).abs().amax(1, keepdim=True) / 127
    error = (decode(stored, Q8_0) - base - update).view(-1, 32).abs()
    assert bool((error <= 1.51 * step).all())  # a scale is rounded to float16


def test_a_weight_is_rounded_alike_each_time_however_its_rows_are_cut():
    base, _ = tuned()
    whole = Dither("a weight").q8_0(base, base / 2)
    parts = Dither("a weight")
    assert (parts.q8_0(base[:100], base[:100] / 2) == whole[:100]).all()
    assert (parts.q8_0(base[100:], base[100:] / 2) == whole[100:]).all()
    assert (Dither("another").q8_0(base, base / 2) != whole).any()


def test_an_update_that_float16_swallows_in_part_is_no_fault_and_a_missing_one_is():
    torch.manual_seed(0)
    base = torch.randn(256, 512).half().float()
    small, large = (size * torch.randn(256, 4) @ torch.randn(4, 512) for size in (1e-4, 1e-2))
    for update, named in ((small, False), (large, True)):
        wanted = {"a weight": print_of(base, update)}
        kept = (base + update).half().float()
        assert fault("a weight", image(kept), "F16", wanted) is None
        missing = fault("a weight", image(base), "F16", wanted)
        assert (missing is not None and "update is missing" in missing) == named


def test_a_block_of_zeros_stays_zero():
    assert not decode(Dither("a weight").q8_0(torch.zeros(2, 64), torch.zeros(2, 64)), Q8_0).any()
