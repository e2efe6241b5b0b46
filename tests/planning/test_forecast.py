"""What a run will take is predicted before it, and what cannot be met is refused with numbers."""

import json
import os
import re
import subprocess
import sys

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

import strop
from strop.actions.plan import plan
from strop.cli.commands.plan import show
from strop.core import env
from strop.core.errors import ConfigError, UnsupportedError
from strop.core.files import read_cached, write_cached
from strop.core.units import size_in_bytes, time_in_seconds
from strop.planning.forecast.devices import device_of
from strop.planning.forecast.speed import ERROR, speed
from strop.planning.forecast.work import MicroBatch, Work
from strop.planning.machine import FreeMemory
from strop.planning.memory import simulate
from strop.planning.plan import plan_step
from strop.planning.settings import Settings
from strop.planning.step import Setup
from tests.tiny.saved import QUICK, save_chats, sums

LLAMA = {
    "vocab_size": 301, "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 7,
    "num_attention_heads": 6, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1500MB", 1_500_000_000),
        ("4 GB", 4 * 10**9),
        ("2GiB", 2 << 30),
        ("900", 900),
        ("1.5g", 1.5e9),
    ],
)
def test_a_size_is_read_as_people_write_it(text, size):
    assert size_in_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "time"), [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("2 min", 120)]
)
def test_a_time_is_read_as_people_write_it(text, time):
    assert time_in_seconds(text) == time


@pytest.mark.parametrize("text", ["", "much", "-3GB", "4 gallons", "12"])
def test_what_is_no_time_or_size_is_refused_by_the_settings(text):
    with pytest.raises(ConfigError, match="time is"):
        Settings.read({"time": text})
    if text != "12":
        with pytest.raises(ConfigError, match="memory is"):
            Settings.read({"memory": text})


def test_a_device_is_named_by_kind_and_size_or_by_its_card():
    assert device_of("cpu:8GB").memory == 8 * 10**9
    assert device_of("cuda:24GB").kind == "cuda"
    assert device_of("cuda:A100").memory == 80 * 10**9
    with pytest.raises(ConfigError, match="cuda:24GB"):
        device_of("tpu")


@pytest.mark.parametrize(("activations", "recomputed"), [("keep", False), ("checkpoint", True)])
def test_the_formula_counts_the_operations_of_a_step(activations, recomputed):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **LLAMA))
    rows, answers = (300, 200, 120), (40, 199, 1)
    (step,) = simulate(
        Setup(
            config={"model_type": "llama", **LLAMA}, rows=rows, answers=answers, bits=16,
            dtype="bfloat16", rank=8, activations=activations,
        )
    )  # fmt: skip
    work = Work.of(model, "all-linear", 8)
    batch = MicroBatch.of_rows(rows, sum(answers))
    assert work.training(batch, recomputed=recomputed) == pytest.approx(step.flops, rel=0.1)


@pytest.fixture(scope="module")
def llama():
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **LLAMA)).float()


def test_a_limit_below_the_leanest_step_is_refused_with_the_least_that_would_do(llama):
    rows = [(range(700), range(700))] * 16
    with pytest.raises(UnsupportedError) as caught:
        plan_step(llama, rows, Settings(rank=8), FreeMemory(1 << 20, "memory 1MB", strict=True))
    text = str(caught.value)
    assert "memory 1MB leaves" in text
    assert "700 tokens" in text
    assert re.search(r"at least [\d.]+ .B in all would do \(memory='\d+MB'\)", text)
    needed = float(re.search(r"needs ([\d.]+) MB", text)[1])
    plan = plan_step(
        llama, rows, Settings(rank=8), FreeMemory(round((needed + 0.1) * 1e6), "", True)
    )
    assert plan.activations == "offload"


def test_a_budget_makes_the_parts_of_a_step_smaller(llama):
    rows = [(range(700), range(700))] * 16
    plans = [
        plan_step(llama, rows, Settings(rank=8), FreeMemory(n << 20, "", True)) for n in (4096, 60)
    ]
    assert plans[0].micro_batch_tokens is None
    assert plans[1].micro_batch_tokens is not None
    assert plans[1].peak <= plans[0].peak  # equal where the process had as much before


@pytest.fixture(scope="module")
def planned(tmp_path_factory, tiny_model):
    data = save_chats(tmp_path_factory.mktemp("planned") / "chats.jsonl", 40)
    return plan({"data": str(data), "model": str(tiny_model), "rank": 4})


def test_a_plan_has_each_setting_with_value_reason_and_what_changes_it(planned):
    json.dumps(planned)
    choices = {choice["setting"]: choice for choice in planned["choices"]}
    assert choices["rank"]["reason"] == "set by hand"
    needed = {"learning_rate", "epochs", "batch_size", "alpha", "warmup", "schedule", "dropout", "bits",
              "max_length", "dtype", "activations", "micro_batch_tokens", "target_modules", "eval_every",
              "early_stopping_patience"}  # fmt: skip
    assert choices.keys() > needed
    assert all(choice["reason"] and choice["changed_by"] for choice in choices.values())


def test_a_plan_has_memory_and_time_with_error_bars_and_two_alternatives(planned):
    cost = planned["forecast"]
    assert cost["peak_low"] < cost["peak"] < cost["peak_high"]
    assert 0 < cost["seconds_low"] < cost["seconds"] < cost["seconds_high"]
    assert [other["name"] for other in planned["alternatives"]] == ["leaner", "faster"]
    assert planned["models"][0]["fits"]


def test_a_plan_bounds_compiled_products_as_its_run_will(tmp_path, tiny_model, monkeypatch):
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    unbound = env.most_products()
    data = save_chats(tmp_path / "chats.jsonl", 40)
    plan({"data": str(data), "model": str(tiny_model)})
    assert env.most_products() < unbound


def test_the_table_shows_settings_cost_alternatives_and_models(planned, capsys):
    show(planned)
    shown = " ".join(capsys.readouterr().out.split())
    for part in ("setting value why changed by", "set by hand", "at the peak", "leaner", "faster"):
        assert part in shown


def test_a_time_cuts_the_epochs_or_is_refused_with_the_least_that_would_do(
    planned, tmp_path, tiny_model
):
    data = save_chats(tmp_path / "chats.jsonl", 40)
    settings = {"data": str(data), "model": str(tiny_model)}
    with pytest.raises(ConfigError, match=r"room for \d+ steps.*need") as caught:
        plan(settings | {"time": "0.001s"})
    assert "time" in str(caught.value)
    whole = plan(settings)["forecast"]["seconds"]
    with pytest.raises(ConfigError, match=r"room for .* epochs, and epochs is 9"):
        plan(settings | {"time": f"{whole:.6f}s", "epochs": 9.0})
    part = plan(settings | {"time": f"{whole * 0.6:.6f}s"})
    assert part["settings"]["epochs"] < 5
    epochs = next(choice for choice in part["choices"] if choice["setting"] == "epochs")
    assert "take longer than" in epochs["reason"]


def test_three_rows_are_planned_and_a_card_that_is_not_here_is_estimated(tmp_path, tiny_model):
    data = save_chats(tmp_path / "three.jsonl", 3)
    few = plan({"data": str(data), "model": str(tiny_model), "held_out": 0})
    assert few["forecast"]["steps"] == 5
    with pytest.raises(ConfigError, match="device is"):
        plan({"data": str(data), "model": str(tiny_model)}, device="quantum")


def test_a_run_prints_its_plan_and_keeps_what_was_predicted(tmp_path, tiny_model, capfd):
    loud = {name: value for name, value in QUICK.items() if name != "quiet"}
    run = strop.train(sums(12), model=tiny_model, out=tmp_path / "run", **loud)
    shown = capfd.readouterr().err
    assert "supervised tokens need" in shown
    assert "predicted" in shown
    assert run.record["forecast"]["steps"] == 3


def test_what_other_processes_disturbed_is_timed_again(llama, monkeypatch, tmp_path):
    monkeypatch.setenv("STROP_CACHE", str(tmp_path))
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        disturbed = speed(llama, device_of("cpu"))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert not list(tmp_path.glob("step_times/*.json"))
    assert disturbed.low < 1 - ERROR
    monkeypatch.setattr("strop.planning.forecast.speed.QUIET", 1.0)
    speed(llama, device_of("cpu"))
    assert list(tmp_path.glob("step_times/*.json"))


def test_a_machine_that_became_slower_is_predicted_slower(llama, monkeypatch, tmp_path):
    monkeypatch.setenv("STROP_CACHE", str(tmp_path))
    monkeypatch.setattr("strop.planning.forecast.speed.QUIET", 1.0)
    now = speed(llama, device_of("cpu"))
    (file,) = tmp_path.glob("step_times/*.json")
    numbers = read_cached(file)
    write_cached(file, numbers | {"product": numbers["product"] / 100})
    slower = speed(llama, device_of("cpu"))
    assert slower.flop > 10 * now.flop
