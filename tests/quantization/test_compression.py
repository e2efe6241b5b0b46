"""Errors that are fed back make good for each other, and move no weight further than they may."""

import pytest
import torch

from strop.models.blockwise import take_apart
from strop.ops.dequantize import dequantize
from strop.quantization.calibration import Grams
from strop.quantization.choices import NF4_FORMAT
from strop.quantization.compression import SHRINKAGES, Calibrated, compress
from strop.quantization.gram import feedback
from strop.quantization.matrix import quantize
from tests.models import tiny


def nothing(stage, done, total):
    pass


@pytest.fixture(scope="module")
def parts():
    """A model's blocks, and fewer tokens than a layer has inputs: errors move weights far."""
    sizes = {"hidden_size": 64, "intermediate_size": 128}
    model = tiny.model("llama", dtype=torch.float32, lora=False, sizes=sizes).requires_grad_(False)
    rng = torch.Generator().manual_seed(0)
    return take_apart(model, [torch.randint(3, 200, (24,), generator=rng) for _ in range(2)])


def moved(parts, *limit):
    """Return how far each weight of the first block is moved, over its size."""
    decoder, entering = parts
    linears = decoder.linears(0)
    chosen = dict.fromkeys(linears, NF4_FORMAT)
    packed = compress(decoder, Calibrated(entering, None, *limit), None, chosen, nothing).packed
    return {
        name: float((dequantize(packed[name]) - of.weight).norm() / of.weight.norm())
        for name, of in linears.items()
    }


def test_no_weight_is_moved_further_than_it_may(parts):
    free = moved(parts)
    limit = sorted(free.values())[len(free) // 2]
    assert max(free.values()) > 1.02 * limit
    held = moved(parts, limit)
    assert max(held.values()) <= limit


def test_where_no_share_is_small_enough_nothing_is_fed_back(parts):
    decoder, entering = parts
    linears = decoder.linears(0)
    block, grams = decoder.copied(0), Grams()
    with block.inputs(grams.take):
        for rows in entering:
            block(rows)
    for name, found in moved(parts, 0.0).items():
        weight = linears[name].weight
        alone = quantize(weight, NF4_FORMAT, energy=grams_energy(grams[name]))
        assert found == pytest.approx(float((dequantize(alone) - weight).norm() / weight.norm()))


def grams_energy(gram):
    """Return what weighs errors that nothing is fed back of."""
    factor = feedback(gram, SHRINKAGES[-1])
    assert torch.equal(factor, torch.diag(factor.diagonal()))
    return factor.diagonal().pow(-2)
