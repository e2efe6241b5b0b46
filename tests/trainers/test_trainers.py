"""Every TRL trainer logs with strop what it logs without."""

import copy
import logging

import pytest
import torch
from transformers import GenerationConfig

import strop
from strop.forward.base_model import base_model
from tests.trainers import runs

KINDS = tuple(runs.KINDS)


def maker(kind, folder, out, **settings):
    """Return a function that builds the same trainer each time."""

    def make():
        given = {name: value() if callable(value) else value for name, value in settings.items()}
        return runs.trainer(kind, folder, out, **given)

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_logs_what_the_plain_trainer_logs(kind, tiny_model, tmp_path):
    built, lines = runs.compare(maker(kind, tiny_model, tmp_path))
    compact = runs.watch(built)
    assert compact.calls >= 5
    assert not compact.reported
    assert {"loss", "grad_norm", "entropy"} <= lines[0].keys()
    assert max(line["grad_norm"] for line in lines) > 1e-3


@pytest.mark.parametrize("kind", ["dpo", "grpo"])
def test_shared_prompts_and_pieces_change_nothing_that_is_logged(kind, tiny_model, tmp_path):
    data = runs.rows(kind, prompt=60)
    make = maker(kind, tiny_model, tmp_path, data=data, max_steps=3)
    for budget in (None, 150):
        runs.compare(
            make, micro_batch_tokens=budget, activations="checkpoint" if budget else "keep"
        )


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
@pytest.mark.parametrize("temperature", [0.6])
def test_a_temperature_divides_the_logits(kind, temperature, tiny_model, tmp_path):
    make = maker(kind, tiny_model, tmp_path, temperature=temperature, num_iterations=2, max_steps=4)
    built, lines = runs.compare(make)
    assert runs.watch(built).options.temperature == temperature
    assert max(abs(line["loss"]) for line in lines) > 1e-3


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
@pytest.mark.parametrize("settings", [{}, {"top_k": 20, "top_p": 0.8, "temperature": 1.3}], ids=str)
def test_answers_are_those_that_transformers_draws(kind, settings, tiny_model, tmp_path):
    built = runs.trainer(kind, tiny_model, tmp_path, max_steps=1, **settings)
    ids = torch.randint(3, 60, (6, 40))
    ids[3:] = ids[:3].roll(7, 1)
    mask = torch.ones_like(ids)
    mask[1, :20] = 0
    drawn = []
    for around in (lambda: None, lambda: strop.accelerate(built), lambda: strop.restore(built)):
        around()
        torch.manual_seed(5)
        drawn.append(
            built.model.generate(
                input_ids=ids, attention_mask=mask, generation_config=built.generation_config
            )
        )
    assert drawn[0].equal(drawn[1])
    assert drawn[0].equal(drawn[2])
    assert "generate" not in vars(built.model)


def test_settings_of_a_model_without_generation_config_are_known(tiny_model, tmp_path, caplog):
    built = runs.trainer("grpo", tiny_model, tmp_path, max_steps=1)
    of_model = GenerationConfig.from_model_config(built.model.config)  # as GGUF files and TRL give
    base_model(built.model).generation_config = of_model
    config = copy.deepcopy(of_model)
    config.update(do_sample=True, max_new_tokens=4, min_new_tokens=4, disable_compile=True)
    config.update(output_attentions=False, output_hidden_states=False)
    strop.accelerate(built)
    with caplog.at_level(logging.WARNING, "strop"):
        built.model.generate(input_ids=torch.randint(3, 60, (2, 9)), generation_config=config)
    assert not [r for r in caplog.records if r.name == "strop"]


def test_what_the_sampler_does_not_know_is_left_to_transformers(tiny_model, tmp_path, caplog):
    built = runs.trainer("grpo", tiny_model, tmp_path, max_steps=1)
    config = copy.deepcopy(built.generation_config)
    config.update(do_sample=False, num_beams=3, num_return_sequences=2)
    ids = torch.randint(3, 60, (2, 20))
    expected = built.model.generate(input_ids=ids, generation_config=config)
    strop.accelerate(built)
    with caplog.at_level(logging.WARNING, "strop"):
        for _ in range(2):
            answers = built.model.generate(input_ids=ids, generation_config=config)
    assert answers.equal(expected)
    (line,) = [r.getMessage() for r in caplog.records if r.name == "strop"]
    assert "num_beams is 3" in line
    assert built.model.generate(ids, max_new_tokens=3).shape[0] == 2


@pytest.mark.parametrize("budget", [None, 60])
@pytest.mark.parametrize(
    "settings", [{"entropy_coef": 0.1}, {"use_adaptive_entropy": True}], ids=str
)
def test_an_entropy_bonus_keeps_its_gradient(settings, budget, tiny_model, tmp_path):
    extra = (
        {"entropy_target": 9.0, "entropy_coef_delta": 0.05} if "adaptive" in str(settings) else {}
    )
    make = maker("grpo", tiny_model, tmp_path, max_steps=3, **settings, **extra)
    built, _ = runs.compare(make, micro_batch_tokens=budget)
    assert runs.watch(built).options.entropy_gradient


def test_an_unexpected_gradient_of_the_entropy_is_refused_not_lost(tiny_model, tmp_path):
    built = runs.trainer("sft", tiny_model, tmp_path, max_steps=1)
    strop.accelerate(built)
    ids = torch.arange(3, 40)[None]
    found = built.model(input_ids=ids, labels=ids, fused_lm_head=True)
    found.entropy.detach().sum()
    with pytest.raises(strop.core.errors.UnsupportedError, match="differentiates the entropy"):
        (found.loss + found.entropy.sum()).backward()


def test_the_head_in_float32_above_a_model_in_bfloat16(tiny_model, tmp_path):
    def own():
        return runs.model(tiny_model, dtype=torch.bfloat16)

    make = maker(
        "grpo", tiny_model, tmp_path, cast_lm_head_to_fp32=True, max_steps=2, own_model=own
    )
    built, _ = runs.compare(make, relative=5e-2)  # the model itself rounds to 8 bits
    assert runs.watch(built).options.float32


@pytest.mark.parametrize("settings", [{"use_weighting": True}, {"ld_alpha": 0.5}], ids=str)
def test_dpo_variants_that_ask_for_more_than_log_probabilities(settings, tiny_model, tmp_path):
    runs.compare(maker("dpo", tiny_model, tmp_path, max_steps=3, **settings))


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_reference_log_probabilities_computed_before_training(kind, tiny_model, tmp_path):
    make = maker(kind, tiny_model, tmp_path, precompute_ref_log_probs=True, max_steps=2)
    # The first step's policy is its own reference: which of two equal rewards is larger is rounding.
    runs.compare(make, without={"rewards/accuracies"})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dpo", "kto", "grpo", "rloo"])
def test_full_training_with_a_reference_model_of_its_own(kind, tiny_model, tmp_path):
    def own():
        return runs.model(tiny_model, lora=False)

    make = maker(kind, tiny_model, tmp_path, own_model=own, max_steps=3, learning_rate=1e-3)
    built, _ = runs.compare(make)
    assert built.ref_model is not None


@pytest.mark.parametrize(
    "settings", [{"loss_type": "dft"}, {"label_smoothing_factor": 0.1}], ids=str
)
def test_sft_losses_that_are_not_the_plain_one(settings, tiny_model, tmp_path):
    runs.compare(maker("sft", tiny_model, tmp_path, max_steps=3, **settings), micro_batch_tokens=90)


def test_noise_on_the_embeddings_goes_the_plain_way_and_is_said_once(tiny_model, tmp_path, caplog):
    make = maker("sft", tiny_model, tmp_path, neftune_noise_alpha=5.0, max_steps=3)
    with caplog.at_level(logging.WARNING, "strop"):
        runs.compare(make)
    assert sum("NEFTune" in line for line in caplog.messages) == 1
