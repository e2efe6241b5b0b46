"""What a run says at its end: losses, and whether it diverged."""

import math

import pytest

from strop.core.errors import hints_as_flags
from strop.runs.diagnosis import diagnose
from strop.runs.diagnosis.history import History
from strop.runs.outcome import outcome

SETTINGS = {"settings": {"learning_rate": 3e-3}}


def log(held_out, losses=(3.0, 2.0)):
    lines = [{"step": 0, "held_out_loss": held_out[0]}]
    lines += [{"step": i, "loss": loss} for i, loss in enumerate(losses, 1)]
    return [*lines, *({"step": len(losses), "held_out_loss": loss} for loss in held_out[1:])]


def test_a_run_that_learned_says_what_became_of_its_losses():
    result = outcome(log([3.1, 1.5]), SETTINGS)
    assert not result.diverged
    assert result.sentences() == [
        "loss on the training rows 3.000 at step 1, mean of the last steps 2.474 at step 2",
        "loss on the held-out rows 3.100 before training, 1.500 after it: better",
    ]


def test_a_held_out_loss_far_above_its_first_is_a_divergence_with_a_lower_rate():
    result = outcome(log([3.1, 12.3], (3.0, 9.0)), SETTINGS)
    assert "rose from 3.100 to 12.300" in result.diverged
    assert result.diverged.endswith("lower learning_rate, a tenth: learning_rate=0.0003")
    assert result.sentences()[-1] == result.diverged
    with hints_as_flags():
        assert outcome(log([3.1, 12.3], (3.0, 9.0)), SETTINGS).diverged.endswith(
            "--learning-rate 0.0003"
        )


def test_where_the_training_rows_were_learned_fewer_epochs_are_named():
    assert "train fewer epochs" in outcome(log([3.1, 12.3], (3.0, 0.5)), SETTINGS).diverged


def test_a_run_that_is_only_overfitted_did_not_diverge():
    lines = log([3.1, 4.0], (3.0, 0.5))
    assert not outcome(lines, SETTINGS).diverged
    [finding] = diagnose(History(lines))
    assert finding.kind == "overfitting"
    assert "rose from 3.100 at step 0 to 4.000" in finding.evidence


@pytest.mark.parametrize("held_out", [[3.1, 3.2], [0.2, 0.29], [2.0, 2.0]])
def test_a_small_rise_is_no_divergence(held_out):
    assert not outcome(log(held_out), SETTINGS).diverged


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_a_divergence(loss):
    assert f"the loss is {loss} at step 2" in outcome(log([3.1], (3.0, loss)), SETTINGS).diverged


def test_the_best_step_decides_where_its_adapter_is_the_runs():
    best = {**SETTINGS, "best": {"step": 1, "held_out_loss": 2.9}}
    assert outcome(log([3.1, 12.3]), best).eval_loss_after == 2.9


def test_a_run_on_pairs_says_how_many_lean_to_the_chosen_answer():
    lines = log([0.69, 0.6])
    for line, margin, share in ((lines[0], 0.0, 0.0), (lines[-1], 0.25, 0.75)):
        line |= {"held_out_reward_margin": margin, "held_out_reward_accuracy": share}
    sentence = "of the held-out pairs 75% now lean to the chosen answer, by +0.250 on average"
    pairs = {"settings": {**SETTINGS["settings"], "method": "dpo"}}
    assert sentence in outcome(lines, pairs).sentences()[-1]


def test_a_run_without_held_out_rows_has_only_its_training_loss():
    lines = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}]
    assert len(outcome(lines, SETTINGS).sentences()) == 1
