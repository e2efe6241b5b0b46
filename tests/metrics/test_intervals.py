import math

import pytest
import torch

from strop.metrics.intervals import Scores, interval, paired, ratio, wilson


def test_wilson_gives_the_published_values():
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    published = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605)}
    published |= {(0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for (hits, rows), ends in published.items():
        assert wilson(hits / rows, rows) == pytest.approx(ends, abs=5e-5)


def test_wilson_of_all_hits_stays_below_one_and_above_the_truth_of_a_fair_guess():
    low, high = wilson(1.0, 300)
    assert high == pytest.approx(1.0)
    assert 0.98 < low < high


def mean_of(values, weights=None, **kind):
    values = torch.as_tensor(values, dtype=torch.float64)
    weights = torch.ones_like(values) if weights is None else torch.as_tensor(weights).double()
    kind = {"share": False} | kind
    return Scores(torch.stack([values, weights], 1), ratio, **kind)


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says():
    values = torch.randn(400, generator=torch.Generator().manual_seed(7)) + 3
    low, high = interval(mean_of(values), torch.arange(400), seed=0)
    error = values.std().item() / math.sqrt(400)
    assert high - low == pytest.approx(2 * 1.966 * error, rel=0.1)
    assert low < values.mean().item() < high


def test_a_row_weighs_as_its_tokens():
    scores = mean_of([10.0, 60.0], [10, 20])
    assert scores.total() == pytest.approx(70 / 30)


def test_an_interval_is_the_same_for_the_same_seed():
    scores, rows = mean_of(torch.arange(50.0)), torch.arange(50)
    assert interval(scores, rows, seed=3) == interval(scores, rows, seed=3)
    assert interval(scores, rows, seed=3) != interval(scores, rows, seed=4)


def test_right_and_wrong_rows_have_the_interval_of_wilson():
    scores = mean_of([1.0] * 30 + [0.0] * 10, share=True, right=True)
    assert interval(scores, torch.arange(40), seed=0) == wilson(0.75, 40)


def test_copies_of_a_row_make_no_interval_narrower():
    values = (torch.rand(60, generator=torch.Generator().manual_seed(1)) < 0.7).double()
    once = mean_of(values, share=True, right=True)
    copied = mean_of(values.repeat_interleave(5), share=True, right=True)
    alone = interval(once, torch.arange(60), seed=0)
    together = interval(copied, torch.arange(60).repeat_interleave(5), seed=0)
    assert together == pytest.approx(alone, abs=0.01)
    low, high = interval(copied, torch.arange(300), seed=0)
    assert high - low < 0.6 * (alone[1] - alone[0])


def test_a_paired_difference_is_narrower_than_two_intervals():
    rng = torch.Generator().manual_seed(2)
    hard, noise = torch.randn(300, generator=rng), torch.randn((2, 300), generator=rng) / 5
    first, second = mean_of(hard + noise[0]), mean_of(hard + noise[1] - 0.1)
    change = paired(first, second, torch.arange(300), seed=0)
    assert change.value == pytest.approx(second.total() - first.total())
    assert change.low < change.value < change.high
    low, high = interval(first, torch.arange(300), seed=0)
    assert change.high - change.low < (high - low) / 3


def test_two_equal_models_have_a_difference_of_zero_with_a_width():
    scores = mean_of([1.0] * 20, share=True, right=True)
    change = paired(scores, scores, torch.arange(20), seed=0)
    assert change.value == 0
    assert change.low < 0 < change.high


def test_one_row_has_an_interval_only_where_it_is_right_or_wrong():
    one = torch.arange(1)
    assert interval(mean_of([2.0]), one, seed=0) is None
    assert paired(mean_of([2.0]), mean_of([1.0]), one, seed=0).low is None
    low, high = interval(mean_of([1.0], share=True, right=True), one, seed=0)
    assert 0 < low < high == 1


RNG = torch.Generator().manual_seed(5)


def drawn_right(rows, truth):
    return mean_of((torch.rand(rows, generator=RNG) < truth).double(), share=True, right=True)


@pytest.mark.parametrize("truth", [0.7, 0.99])
def test_the_interval_of_a_share_holds_the_truth_in_19_of_20_evaluations(truth):
    rows = torch.arange(300)
    ends = [interval(drawn_right(300, truth), rows, seed=0) for _ in range(1000)]
    assert 0.93 <= sum(low <= truth <= high for low, high in ends) / 1000 <= 0.98


def test_the_interval_of_a_difference_holds_the_truth_in_19_of_20_evaluations():
    rows, hits = torch.arange(300), 0
    for _ in range(400):
        both = torch.rand(300, generator=RNG)
        second = torch.where(
            torch.rand(300, generator=RNG) < 0.5, both, torch.rand(300, generator=RNG)
        )
        first, second = ((x < t).double() for x, t in ((both, 0.9), (second, 0.95)))
        kind = {"share": True, "right": True}
        change = paired(mean_of(first, **kind), mean_of(second, **kind), rows, seed=0)
        hits += change.low <= 0.05 <= change.high
    assert 0.92 <= hits / 400 <= 0.98
