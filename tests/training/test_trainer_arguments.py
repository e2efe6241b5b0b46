"""Each argument of TRL's trainer works, is refused with strop's way, or does not matter: no other."""

import dataclasses
import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file
from trl import SFTConfig

import strop
from strop.core.errors import ConfigError, UnsupportedError
from strop.planning.argument_tables import DECIDED, FORMER, REFUSED, WITHOUT_EFFECT, WORKS
from strop.planning.settings import Settings
from strop.runs import checkpoints
from tests.tiny.saved import QUICK, sums

FIELDS = {field.name for field in dataclasses.fields(SFTConfig) if field.init}


def losses(run):
    return [line["loss"] for line in run.log if "loss" in line]


def held_out(run):
    return {line["step"]: line["held_out_loss"] for line in run.log if "held_out_loss" in line}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model):
    """Return a function that trains a tiny model for a moment."""

    def train(folder=None, **settings):
        folder = folder or tmp_path_factory.mktemp("run") / "run"
        chosen = {**QUICK, "bits": 32, **settings}
        return strop.train(sums(20), model=tiny_model, out=folder, **chosen)

    return train


@pytest.fixture(scope="module")
def plain(trained):
    return trained(eval_every=1)


def test_every_argument_of_the_installed_trainer_is_in_exactly_one_table():
    tables = (WORKS, REFUSED, WITHOUT_EFFECT)
    assert set().union(*tables) == FIELDS
    assert sum(map(len, tables)) == len(FIELDS)
    assert DECIDED.keys() <= REFUSED.keys()
    assert not FORMER.keys() & FIELDS


def test_settings_that_are_named_as_the_way_exist():
    names = {field.name for field in dataclasses.fields(Settings)}
    assert set(DECIDED.values()) <= names


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused_is_refused_by_name_with_the_way(name):
    with pytest.raises(ConfigError, match=rf"trainer\.{name} is") as caught:
        Settings.read({"trainer": {name: "always"}})
    assert (REFUSED[name] or f"use {DECIDED[name]}") in str(caught.value)


@pytest.mark.parametrize("name", sorted(FORMER))
def test_a_name_of_earlier_versions_is_refused_with_todays(name):
    with pytest.raises(ConfigError, match="a name of earlier versions") as caught:
        Settings.read({"trainer": {name: 1}})
    assert str(caught.value).endswith(f"use {FORMER[name]}")


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"packing": True}, "packing is not needed"),
        ({"padding_free": True}, "padding_free is not needed"),
        ({"completion_only_loss": False}, "give rows as plain text"),
        ({"assistant_only_loss": False}, "give rows as plain text"),
        ({"report_to": "wandb"}, "use the setting report_to"),
        ({"report_to": ["tensorboard"]}, "use the setting report_to"),
        ({"run_name": "first"}, "no effect without report_to"),
        ({"push_to_hub": True}, "strop push"),
        ({"resume_from_checkpoint": True}, "strop train --resume"),
        ({"deepspeed": "zero3.json"}, "strop.accelerate"),
        ({"fsdp": "full_shard"}, "strop.accelerate"),
        ({"dataset_text_field": "body"}, r"setting map \(COLUMN=text\)"),
        ({"activation_offloading": True}, r"setting activations \(offload\)"),
        ({"max_length": 512}, "use max_length"),
        ({"train_sampling_strategy": "batch_wise"}, "random or sequential or group_by_length"),
        ({"loss_type": "focal"}, "nll or dft"),
        ({"metric_for_best_model": "eval_acuracy"}, "did you mean accuracy"),
        ({"metric_for_best_model": 3}, "must be a text"),
        ({"greater_is_better": False}, "no effect without load_best_model_at_end"),
        ({"load_best_model_at_end": True, "greater_is_better": True}, "the lowest loss"),
        ({"load_best_model_at_end": "yes"}, "must be true or false"),
        ({"save_total_limit": 0}, "at least 1"),
        ({"save_total_limit": True}, "at least 1"),
        ({"adam_beta3": 0.9}, "did you mean adam_beta"),
    ],
    ids=str,
)
def test_an_argument_that_would_have_no_effect_is_refused(trainer, message):
    with pytest.raises(ConfigError, match=message):
        Settings.read({"trainer": trainer})


@pytest.mark.parametrize(
    "settings",
    [
        {"trainer": {"load_best_model_at_end": True}, "held_out": 0},
        {"trainer": {"lr_scheduler_kwargs": {"num_cycles": 2}}, "schedule": "constant"},
    ],
    ids=str,
)
def test_an_argument_without_what_it_needs_is_refused(settings):
    with pytest.raises(ConfigError, match=r"trainer\."):
        Settings.read(settings)


@pytest.mark.parametrize(
    "trainer",
    [
        {"packing": False, "padding_free": False, "push_to_hub": False, "report_to": "none"},
        {"completion_only_loss": True, "assistant_only_loss": True, "eval_packing": None},
        {"torch_compile": False, "resume_from_checkpoint": None, "dataset_text_field": "text"},
    ],
    ids=str,
)
def test_what_strop_does_anyhow_may_be_written(trainer):
    Settings.read({"trainer": trainer})


@pytest.mark.parametrize(
    "trainer",
    [
        {"optim": "sgd"},
        {"optim": "adafactor"},
        {"adam_beta1": 0.1},
        {"adam_beta2": 0.5},
        {"adam_epsilon": 1.0},
        {"neftune_noise_alpha": 5.0},
        {"label_smoothing_factor": 0.2},
        {"loss_type": "dft"},
        {"train_sampling_strategy": "sequential"},
        {"train_sampling_strategy": "group_by_length"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.label_smoothing_factor. is deprecated:FutureWarning")
def test_what_works_changes_the_training(trained, plain, trainer):
    changed = trained(trainer=trainer, eval_every=3)
    assert losses(changed) != losses(plain)
    assert all(math.isfinite(loss) for loss in losses(changed))


def test_a_schedule_takes_its_numbers_and_no_others(trained):
    settings = {"schedule": "cosine", "max_steps": 4}
    rates = [
        [line["learning_rate"] for line in run.log if "loss" in line]
        for run in (
            trained(**settings),
            trained(**settings, trainer={"lr_scheduler_kwargs": {"num_cycles": 2.0}}),
        )
    ]
    assert rates[0] != rates[1]
    with pytest.raises(ConfigError, match="num_cycles"):
        trained(trainer={"lr_scheduler_kwargs": {"num_cycles": 2.0}})


def test_the_held_out_loss_can_wait(trained, plain):
    assert list(held_out(plain)) == [0, 1, 2, 3]
    assert list(held_out(trained(eval_every=1, trainer={"eval_delay": 2}))) == [0, 2, 3]


def test_save_total_limit_is_the_number_of_checkpoints(trained):
    for limit in (1, 3):
        run = trained(save_every=1, max_steps=4, trainer={"save_total_limit": limit})
        steps = [checkpoints.step_of(path) for path in checkpoints.whole(run.checkpoints_folder)]
        assert steps == list(range(5 - limit, 5))


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"optim": "sgd", "adam_beta1": 0.5}, "adam_beta1 has no effect with optim=sgd"),
        ({"optim_args": "a=1"}, "optim_args has no effect with optim=adamw_torch_fused"),
        ({"optim": "sideways"}, "sideways"),
        ({"router_aux_loss_coef": 0.1}, "not a Mixture-of-Experts"),
    ],
    ids=str,
)
def test_what_only_this_trainer_cannot_take_is_one_clear_error(trained, trainer, message):
    with pytest.raises(ConfigError, match=message):
        trained(trainer=trainer)


def test_an_argument_that_does_not_matter_is_warned_of_once_and_changes_nothing(
    trained, plain, caplog
):
    given = {"dataloader_num_workers": 2, "ddp_timeout": 5, "pad_token": "<|absent|>"}
    assert losses(trained(trainer=given)) == losses(plain)
    texts = [r.message for r in caplog.records if "does not matter here" in r.message]
    assert len(texts) == 3
    assert texts[0].endswith(WITHOUT_EFFECT["dataloader_num_workers"])


def test_full_determinism_and_the_log_level_are_set(trained):
    import transformers

    level, before = (
        transformers.logging.get_verbosity(),
        torch.are_deterministic_algorithms_enabled(),
    )
    try:
        trained(trainer={"full_determinism": True, "log_level": "critical"}, max_steps=1)
        assert torch.are_deterministic_algorithms_enabled()
        assert transformers.logging.get_verbosity() == 50
    finally:
        torch.use_deterministic_algorithms(before)
        transformers.logging.set_verbosity(level)


BEST = {
    "trainer": {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"},
    "learning_rate": 2.0,
    "max_steps": 8,
    "eval_every": 1,
    "save_every": 3,
    "schedule": "constant",
}


@pytest.fixture(scope="module")
def best(trained):
    """A run that got worse after its best step, which was not its last."""
    run = trained(**BEST)
    measured = held_out(run)
    del measured[0]
    assert min(measured, key=measured.get) < 6, measured
    return run


def test_the_adapter_is_that_of_the_lowest_held_out_loss(best):
    measured = held_out(best)
    del measured[0]
    step = min(measured, key=measured.get)
    assert best.record["best"] == {"step": step, "held_out_loss": measured[step]}
    folder = best.checkpoints_folder / f"checkpoint-{step}"
    saved = load_file(folder / "adapter_model.safetensors")
    final = load_file(best.adapter_folder / "adapter_model.safetensors")
    assert saved.keys() == final.keys()
    assert all(torch.equal(saved[name], final[name]) for name in saved)
    assert f"The adapter is that of step {step}" in best.report.read_text()
    assert {checkpoints.step_of(p) for p in checkpoints.whole(best.checkpoints_folder)} >= {step, 8}


def test_the_last_adapter_is_saved_where_the_best_is_not_requested(trained, best):
    run = trained(**{**BEST, "trainer": {}})
    assert losses(run) == losses(best), "measuring and saving more changes no step"
    assert "best" not in run.record
    last = load_file(run.checkpoints_folder / "checkpoint-8" / "adapter_model.safetensors")
    final = load_file(run.adapter_folder / "adapter_model.safetensors")
    assert all(torch.equal(last[name], final[name]) for name in last)


def killed_after_step_6(run, folder):
    """Copy a run as a kill would have left it: without what it did after its checkpoint of step 6."""
    shutil.copytree(run.path, folder)
    copy = strop.Run(folder)
    shutil.rmtree(copy.adapter_folder)
    shutil.rmtree(copy.checkpoints_folder / "checkpoint-8")
    copy.update(status="running", best=None)
    return copy


def test_a_resumed_run_ends_with_the_same_best_adapter(best, tmp_path):
    killed = killed_after_step_6(best, tmp_path / "run")
    run = strop.train(sums(20), resume=killed.path, quiet=True)
    assert run.record["best"] == best.record["best"]
    name = "adapter_model.safetensors"
    assert (run.adapter_folder / name).read_bytes() == (best.adapter_folder / name).read_bytes()
    assert held_out(run) == held_out(best)


def test_a_best_checkpoint_that_is_gone_is_named(best, tmp_path):
    killed = killed_after_step_6(best, tmp_path / "run")
    step = best.record["best"]["step"]
    shutil.rmtree(killed.checkpoints_folder / f"checkpoint-{step}")
    with pytest.raises(UnsupportedError, match=rf"checkpoint-{step}, .*gone or damaged"):
        strop.train(sums(20), resume=killed.path, quiet=True)


def test_the_best_line_of_a_log_counts_from_the_first_step():
    log = [
        {"step": 0, "held_out_loss": 1.0},
        {"step": 1, "loss": 0.1},
        {"step": 1, "held_out_loss": 3.0},
        {"step": 2, "held_out_loss": math.nan},
        {"step": 3, "held_out_loss": 2.0},
        {"step": 4, "held_out_loss": 2.0},
    ]
    assert checkpoints.best(log)["step"] == 3
    assert checkpoints.best(log, last=2)["step"] == 1
    assert checkpoints.best(log[:2]) is None


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        ("q_proj,v_proj", ["q_proj", "v_proj"]),
        ("q_proj, v_proj", ["q_proj", "v_proj"]),
        ("q_proj", ["q_proj"]),
        (["layers.0.self_attn.q_proj"], ["layers.0.self_attn.q_proj"]),
        (r".*\.(q|v)_proj", r".*\.(q|v)_proj"),
        (["all-linear"], None),
    ],
    ids=str,
)
def test_target_modules_are_names_or_an_expression(trained, targets, names):
    run = trained(target_modules=targets, max_steps=1)
    modules = json.loads((run.adapter_folder / "adapter_config.json").read_text())["target_modules"]
    if names is None:
        assert len(modules) == 2 * 7, "seven layers in each of two blocks"
    else:
        assert (sorted(modules) if isinstance(names, list) else modules) == names


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("q_proj,w_proj", "w_proj stands for no layer"),
        ("lm_head", "lm_head gives the scores of the vocabulary"),
        (["q_proj", "lm_head"], "lm_head gives the scores of the vocabulary"),
        ("embed_tokens", "embed_tokens is the embedding"),
        (r".*(q_proj|head)", "lm_head gives the scores of the vocabulary"),
        ("mlp", "LlamaMLP, not a linear layer"),
        ("input_layernorm", "LlamaRMSNorm, not a linear layer"),
        (r".*\.nothing", "stands for no layer"),
        ([], "target_modules is empty"),
        ("", "target_modules is empty"),
        ("all-linear,q_proj", "give it alone"),
        ("(", "no regular expression"),
    ],
    ids=str,
)
def test_names_that_are_no_linear_layers_are_refused_with_those_of_the_model(
    trained, tmp_path, targets, message
):
    with pytest.raises(ConfigError, match=message) as caught:
        trained(tmp_path / "run", target_modules=targets)
    if "target_modules cannot be used: " in str(caught.value):
        assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in str(caught.value)
    assert not (tmp_path / "run").exists()
