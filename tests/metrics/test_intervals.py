import math

import pytest
import torch

from strop.metrics.intervals import bootstrap, wilson


def test_wilson_gives_the_published_values():
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    published = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605)}
    published |= {(0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for (hits, rows), interval in published.items():
        assert wilson(hits, rows) == pytest.approx(interval, abs=5e-5)


def test_wilson_of_all_hits_stays_below_one_and_above_the_truth_of_a_fair_guess():
    low, high = wilson(300, 300)
    assert high == pytest.approx(1.0)
    assert 0.98 < low < high


def test_bootstrap_of_a_mean_is_as_wide_as_its_standard_error_says():
    rng = torch.Generator().manual_seed(7)
    sums = torch.randn(400, generator=rng) + 3
    low, high = bootstrap(sums, torch.ones(400), seed=0)
    error = sums.std().item() / math.sqrt(400)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert low < sums.mean().item() < high


def test_bootstrap_weighs_rows_by_their_tokens():
    low, high = bootstrap(torch.tensor([10.0, 20.0]), torch.tensor([10, 10]), seed=0)
    assert (low, high) == (1.0, 2.0)


def test_bootstrap_is_the_same_for_the_same_seed():
    sums, counts = torch.arange(50.0), torch.ones(50)
    assert bootstrap(sums, counts, seed=3) == bootstrap(sums, counts, seed=3)
    assert bootstrap(sums, counts, seed=3) != bootstrap(sums, counts, seed=4)
