import itertools
import random

import pytest

from strop.core.errors import ConfigError
from strop.quantization.allocation import Knapsack, Option


def groups_of(count, seed=0):
    rng = random.Random(seed)
    return {
        f"layer {i}": [
            Option(f"{bits}", bits * rng.randint(50, 90), rng.random() / bits**2)
            for bits in (4, 5, 6, 8)
        ]
        for i in range(count)
    }


def best_by_trying(groups, budget):
    fitting = (
        sum(o.kl for o in choice)
        for choice in itertools.product(*groups.values())
        if sum(o.bytes for o in choice) <= budget
    )
    return min(fitting)


@pytest.mark.parametrize("seed", range(5))
def test_finds_what_trying_every_choice_finds(seed):
    groups = groups_of(5, seed)
    knapsack = Knapsack(groups)
    for budget in range(knapsack.least, knapsack.most + 100, 60):
        chosen = knapsack.within(budget)
        assert sum(o.bytes for o in chosen.values()) <= budget
        assert sum(o.kl for o in chosen.values()) == pytest.approx(best_by_trying(groups, budget))


def test_a_given_kl_is_reached_with_the_fewest_bytes():
    groups = groups_of(5)
    knapsack = Knapsack(groups)
    max_kl = best_by_trying(groups, 1700)
    chosen = knapsack.below(max_kl)
    spent = sum(o.bytes for o in chosen.values())
    assert sum(o.kl for o in chosen.values()) <= max_kl
    assert best_by_trying(groups, spent - 1) > max_kl


def test_what_is_out_of_reach_is_refused_with_the_limit():
    knapsack = Knapsack(groups_of(3))
    with pytest.raises(ConfigError, match=f"below the {knapsack.least:,} bytes"):
        knapsack.within(knapsack.least - 1)
    with pytest.raises(ConfigError, match="a KL of 1e-09 nats per token is out of reach"):
        knapsack.below(1e-9)
