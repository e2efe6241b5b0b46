import dataclasses

import pytest
import torch

from strop.core.errors import DataError, UnsupportedError
from strop.ops.dequantize import dequantize
from strop.ops.dequantize.packed import unpack
from strop.quantization.formats import FORMATS, NF4
from strop.quantization.matrix import quantize


def weight_of(E=48, D=256):
    return torch.randn(E, D, generator=torch.Generator().manual_seed(0))


def relative_error(weight, form, **settings):
    stored = dequantize(quantize(weight, form, **settings))
    return ((stored - weight).square().sum() / weight.square().sum()).item()


def plain_nf4(weight):
    x, table = weight.view(-1, 64), torch.tensor(NF4)
    scale = x.abs().amax(1, keepdim=True)
    nearest = torch.bucketize(x / scale, (table[1:] + table[:-1]) / 2)
    return (table[nearest] * scale).view(weight.shape)


def test_at_the_bytes_of_nf4_the_error_is_a_sixth_smaller():
    weight = weight_of()
    nf4 = ((plain_nf4(weight) - weight).square().sum() / weight.square().sum()).item()
    form = FORMATS["4b64"]
    assert form.bits_per_weight == pytest.approx(4.127, abs=1e-3)
    assert relative_error(weight, form) < 0.84 * nf4


def test_more_bytes_mean_less_error():
    weight = weight_of()
    forms = sorted(
        (f for f in FORMATS.values() if f.name != "8b64"), key=lambda f: f.bits_per_weight
    )
    errors = [relative_error(weight, form) for form in forms]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


@pytest.mark.parametrize("form", [f for f in FORMATS.values() if f.bits < 8], ids=lambda f: f.name)
def test_no_table_nearby_stores_normal_numbers_much_better(form):
    weight = weight_of(400, 256)
    packed = quantize(weight, form)
    scales = packed.scales().repeat_interleave(form.group)
    codes = unpack(packed.codes, form.bits, weight.numel()).long()
    empty = torch.zeros(2**form.bits)
    means = empty.index_add(0, codes, scales * weight.flatten())
    means /= empty.index_add(0, codes, scales.square())
    moved = dataclasses.replace(form, levels=tuple((means / means[-1]).tolist()))
    assert relative_error(weight, form) < 1.03 * relative_error(weight, moved)
    even = dataclasses.replace(form, levels=())
    assert relative_error(weight, form) < 0.9 * relative_error(weight, even)


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
def test_what_is_stored_takes_the_bytes_that_the_format_says(form):
    packed = quantize(weight_of(), form)
    parts = (packed.codes, packed.scale_codes, packed.factors)
    assert sum(p.numel() * p.element_size() for p in parts) == form.stored_bytes((48, 256))


def test_energy_moves_the_error_away_from_inputs_that_matter():
    weight, energy = weight_of(), torch.ones(256)
    energy[::64] = 100.0
    plain, weighed = (
        (dequantize(quantize(weight, FORMATS["4b64"], energy=e)) - weight).square()
        for e in (None, energy)
    )
    assert (weighed * energy).sum() < 0.9 * (plain * energy).sum()


def test_zeros_stay_zero_beside_groups_that_are_not():
    weight = weight_of()
    weight[:4] = 0
    for form in FORMATS.values():
        assert not dequantize(quantize(weight, form))[:4].any()


def test_a_weight_that_is_not_finite_is_named_with_its_place():
    weight = weight_of()
    weight[3, 7] = torch.nan
    with pytest.raises(DataError, match=r"the weight is nan at \[3, 7\]"):
        quantize(weight, FORMATS["4b64"])


def test_rows_that_are_no_whole_number_of_groups_are_refused():
    with pytest.raises(UnsupportedError, match="no whole number of groups of 128"):
        quantize(weight_of(4, 192), FORMATS["4b128"])
