"""What nobody set is chosen by rules, what somebody set stays."""

import dataclasses

import pytest

import strop
from strop.planning.rules import Task, capacity, choose, duration, rate
from strop.planning.settings import AUTOMATIC, Settings, described, without_auto
from tests.tiny.saved import sums

HEADLINES = Task(
    rows=1140, held_out=60, tokens=90_000, supervised_tokens=3_400, method="sft", family="llama",
    hidden_size=576, rank_parameters=305_280, memory=20 << 30,
)  # fmt: skip
"""1,140 headlines of three classes for SmolLM2-135M."""


def chosen(task=HEADLINES, explicit=None, **changes):
    explicit = explicit or {}
    settings = Settings(**explicit)
    return choose(settings, explicit, dataclasses.replace(task, **changes))[0]


def test_a_small_data_set_is_passed_over_three_times_with_a_rate_for_the_model():
    settings = chosen()
    assert (settings.epochs, settings.batch_size, settings.rank, settings.alpha) == (3, 16, 16, 32)
    assert settings.learning_rate == pytest.approx(4.7e-4)


@pytest.mark.parametrize(("rows", "passes"), [(3, 5), (99, 5), (100, 3), (5_000, 2), (90_000, 1)])
def test_more_rows_are_passed_over_less_often(rows, passes):
    assert duration.epochs(dataclasses.replace(HEADLINES, rows=rows)).value == passes


@pytest.mark.parametrize(
    ("tokens", "needed", "rank"),
    [(3_400, 1, 16), (310_000, 2, 16), (3_000_000, 10, 32), (30_000_000, 99, 256)],
)
def test_the_rank_follows_the_supervised_tokens(tokens, needed, rank):
    task = dataclasses.replace(HEADLINES, supervised_tokens=tokens)
    assert capacity.needed_rank(task) == needed
    assert capacity.rank(task).value == rank


def test_little_memory_bounds_the_rank_and_the_reason_has_it():
    choice = capacity.rank(dataclasses.replace(HEADLINES, memory=300 << 20))
    assert choice.value == 4
    assert "holds no more than 6" in choice.reason


def test_the_rate_falls_with_the_width_as_tinker_measured_it():
    wide = dataclasses.replace(HEADLINES, hidden_size=4096)
    choice = rate.learning_rate(wide, batch_size=128, steps=1000, alpha=32)
    assert choice.value == pytest.approx(2.9e-4)
    qwen = dataclasses.replace(wide, family="qwen3", hidden_size=2560)
    assert rate.learning_rate(qwen, batch_size=128, steps=1000, alpha=32).value == 4.9e-4


def test_the_rate_is_rescaled_by_batch_alpha_steps_and_method():
    def value(task=HEADLINES, batch=16, steps=1000, alpha=32):
        return rate.learning_rate(task, batch_size=batch, steps=steps, alpha=alpha).value

    assert value(batch=32) / value(batch=8) == pytest.approx(2, rel=0.05)  # rates have two digits
    assert value(alpha=64) == pytest.approx(value() / 2, rel=0.05)
    assert value(steps=75) == value(steps=5) == pytest.approx(1.5 * value(), rel=0.05)
    assert value(steps=90) == pytest.approx(1.25 * value(), rel=0.05)
    assert value(steps=113) == value()


def test_answers_that_repeat_one_another_are_learned_longer():
    def settings(rows, repeated):
        return chosen(LINES, rows=rows, repeated=repeated)

    free, form = settings(150, 0.1), settings(150, 0.8)
    assert (free.epochs, form.epochs) == (3, 4)
    assert form.learning_rate == pytest.approx(2 * free.learning_rate, rel=0.05)
    assert settings(1_000, 0.8).epochs == settings(1_000, 0.1).epochs == 3
    assert settings(5_000, 0.8).learning_rate == settings(5_000, 0.1).learning_rate


@pytest.mark.parametrize(("tokens", "factor"), [(1, 1), (2, 1), (5, 2), (10, 3), (40, 3)])
def test_repeated_answers_of_few_tokens_make_noisy_batches(tokens, factor):
    task = dataclasses.replace(LINES, rows=100, supervised_tokens=100 * tokens, repeated=0.9)

    def value(steps):
        return rate.learning_rate(task, batch_size=8, steps=steps, alpha=32).value

    assert value(75) == pytest.approx(factor * value(75 * 3), rel=0.05)


def test_a_method_that_does_not_imitate_keeps_its_usual_rate_in_long_runs():
    def value(method="dpo", steps=1000, alpha=32):
        return rate.method_rate(1e-5, method, steps=steps, alpha=alpha).value

    assert value() == value(steps=400) == 1e-5
    assert value(alpha=64) == 5e-6
    assert value(steps=40) == 1e-4
    assert value(steps=4) == 3e-4
    assert value(method="grpo", steps=4) == 1e-5
    assert rate.method_rate(8e-4, "kto", steps=4, alpha=32).value == 8e-4
    settings = Settings(method="dpo", learning_rate=1e-5)
    many = dataclasses.replace(HEADLINES, method="dpo", rows=8_000)
    assert choose(settings, {}, many)[0].learning_rate == 1e-5


def test_steps_of_drawn_answers_count_the_answers_and_not_the_prompts():
    task = dataclasses.replace(HEADLINES, method="grpo", rows=400)
    explicit = {"method": "grpo", "reward": "number"}
    settings, choices = choose(Settings(**explicit), explicit, task)
    (warmup,) = [choice for choice in choices if choice.setting == "warmup"]
    assert settings.batch_size == 16  # answers, of two prompts
    assert "of 200 steps" in warmup.reason


def test_a_family_that_nobody_measured_is_called_so():
    choice = rate.learning_rate(
        dataclasses.replace(HEADLINES, family="gpt2"), batch_size=16, steps=200, alpha=32
    )
    assert "not calibrated" in choice.reason


@pytest.mark.parametrize("rows", [1, 3, 17, 300, 1_140, 4_999, 5_000, 20_000, 10**6])
def test_every_run_gets_settings_that_can_work(rows):
    settings = chosen(rows=rows)
    assert not list(settings.problems())
    assert settings.batch_size in (4, 8, 16, 32)


def kept(task=HEADLINES, explicit=None, **changes):
    settings = chosen(task, explicit, **changes)
    return settings.load_best_model_at_end, settings.early_stopping_patience


LINES = dataclasses.replace(HEADLINES, rows=142, held_out=8, supervised_tokens=4_000)
"""Lines of a play, whose answers have many tokens."""


def test_the_best_evaluation_is_kept_where_held_out_rows_tell_it():
    assert kept(LINES) == (True, 2)
    assert kept(HEADLINES) == (False, None)  # 60 labels of three tokens
    assert kept(LINES, held_out=7) == kept(LINES, held_out=0) == (False, None)
    assert kept(LINES, explicit={"epochs": 1.0}) == (False, None)  # no row is seen twice
    pairs = {"explicit": {"method": "dpo"}, "method": "dpo"}
    assert (kept(LINES, held_out=20, **pairs), kept(LINES, **pairs)) == ((True, 2), (False, None))
    assert kept(LINES, explicit={"method": "grpo", "reward": "number"}, method="grpo")[0] is False


def test_a_run_of_a_set_length_goes_on_to_its_end():
    assert kept(LINES, explicit={"epochs": 3.0}) == (True, None)
    assert kept(LINES, explicit={"load_best_model_at_end": True}) == (True, None)
    assert kept(LINES, explicit={"load_best_model_at_end": False}) == (False, None)
    assert kept(LINES, explicit={"early_stopping_patience": 3}) == (True, 3)
    assert kept(LINES, explicit={"eval_every": 6}) == (True, 6)  # 18 steps are an epoch
    given = {"trainer": {"load_best_model_at_end": True}}
    settings = chosen(LINES, explicit=given)
    assert (settings.load_best_model_at_end, settings.early_stopping_patience) == (True, None)
    assert not list(settings.problems())


def test_what_is_set_by_hand_stays_and_governs_the_rest():
    explicit = {"epochs": 1.0, "rank": 3, "alpha": 64, "eval_every": 7}
    settings = chosen(explicit=explicit)
    assert {name: getattr(settings, name) for name in explicit} == explicit
    assert settings.learning_rate < chosen(explicit={"epochs": 1.0}).learning_rate
    _, choices = choose(Settings(**explicit), explicit, HEADLINES)
    by_hand = {choice.setting for choice in choices if choice.reason == "set by hand"}
    assert by_hand == set(explicit)
    assert {choice.setting for choice in choices} > set(AUTOMATIC)


def test_auto_is_the_same_as_leaving_out_and_is_the_default_shown():
    assert without_auto({"rank": "auto", "epochs": 2, "dtype": "auto"}) == {
        "epochs": 2,
        "dtype": "auto",
    }
    assert all(described()[name][1] == "auto" for name in AUTOMATIC)


def test_a_run_records_what_was_chosen_and_why(tmp_path, tiny_model):
    settings = {"rank": "auto", "max_steps": 1, "alpha": 8, "held_out": 0, "quiet": True}
    run = strop.train(sums(6), model=tiny_model, out=tmp_path / "run", **settings)
    assert (run.settings["rank"], run.settings["alpha"]) == (16, 8)
    reasons = {choice["setting"]: choice["reason"] for choice in run.record["choices"]}
    assert "supervised tokens need" in reasons["rank"]
    assert reasons["alpha"] == "set by hand"
