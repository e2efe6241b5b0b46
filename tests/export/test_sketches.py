"""How far a weight is from the right one is measured, whatever directions the right one lies along."""

import pytest
import torch

from strop.exporting.weights.sketches import fault, projection, sketch_of


@pytest.mark.parametrize("width", [64, 96, 128, 192, 256])
def test_a_weight_along_one_direction_is_as_far_away_as_its_error_is_large(width):
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(2048, 1, generator=rng) @ torch.randn(1, width, generator=rng)
    error = torch.randn(weight.shape, generator=rng)
    error *= weight.norm() / error.norm()
    update = torch.randn(2048, 2, generator=rng) @ torch.randn(2, width, generator=rng) / 100
    sketches = {"a": sketch_of(weight, None), "b": sketch_of(weight - update, update)}
    for name in sketches:
        assert fault(name, projection(weight + 0.15 * error), "NF4", sketches) is None
        assert "differs" in fault(
            name, projection(weight + 0.17 * error), "NF4", {name: sketches[name]}
        )
