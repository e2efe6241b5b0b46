"""The probe of the learning rate: what it decides, and that it leaves no trace but its decision."""

import math

import pytest

import strop
from strop.training.probe.decision import is_better, is_hopeless, probe_steps, search
from tests.tiny.saved import QUICK, sums

NOISE = [math.sin(7 * i) for i in range(40)]


def descent(rate, steps=40):
    """Losses that fall with the rate, up to a rate of 1e-3 from which they rise; rows make noise."""
    return [3 - min(rate, 1e-6 / rate) * 200 * i / steps + NOISE[i] for i in range(steps)]


@pytest.mark.parametrize(
    ("rate", "chosen"), [(1e-3, 1e-3), (2e-4, 1.3e-3), (4e-4, 1e-3), (2.5e-3, 1e-3)]
)
def test_the_rate_with_the_lowest_loss_is_chosen_whatever_the_rows_add(rate, chosen):
    tried = search(lambda candidate, _: descent(candidate), rate, 40)
    assert tried.chosen == chosen
    assert len(tried.curves) == 3 or tried.chosen == rate


def test_noise_alone_changes_nothing():
    other = [3 + 0.01 * x for x in NOISE[1:]]
    level = [3 + 0.01 * x for x in NOISE[:-1]]
    assert not is_better(other, level)
    assert not is_hopeless(other, level)


def test_a_rate_that_diverges_is_hopeless_at_once():
    assert is_hopeless([3.0, math.nan], [3.0] * 40)
    assert is_hopeless([3.0 + i for i in range(12)], [3.0 + 0.01 * x for x in NOISE])


def test_a_probe_takes_at_most_a_tenth_of_the_steps_and_short_runs_have_none():
    assert probe_steps(599) == 0
    for total in (600, 1000, 5000):
        assert 0 < 3 * probe_steps(total) <= total / 10
    assert probe_steps(30, forced=True) == 20


@pytest.mark.slow
def test_a_probed_run_is_the_run_with_the_rate_it_chose_byte_for_byte(tmp_path, tiny_model):
    given = QUICK | {"model": str(tiny_model), "bits": 32, "dropout": 0.1}
    probed = strop.train(
        sums(40), out=tmp_path / "a", **(given | {"probe": True, "learning_rate": 1e-4})
    )
    record = probed.record["probe"]
    assert record["chosen"] > 1e-4  # a tiny random model takes far more
    assert probed.settings["learning_rate"] == record["chosen"]
    plain = strop.train(
        sums(40), out=tmp_path / "b", **(given | {"learning_rate": record["chosen"]})
    )
    assert "probe" not in plain.record
    weights = "adapter/adapter_model.safetensors"
    assert (probed.path / weights).read_bytes() == (plain.path / weights).read_bytes()
    tokens = [[line["tokens"] for line in run.log if "loss" in line] for run in (probed, plain)]
    assert tokens[0] == tokens[1]
    assert "Learning rates by their loss" in probed.report.read_text()
