"""A run computes in the format it was started in, whatever a timing says later."""

import logging

import pytest
import torch

from strop.core.errors import ConfigError
from strop.models import load
from strop.models.precision import dtype_name
from strop.training import train
from tests.tiny.saved import sums

QUICK = {"max_steps": 1, "batch_size": 4, "held_out": 2, "bits": 16, "quiet": True}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_is_opened_in_the_format_it_was_trained_in(dtype, tiny_model, tmp_path):
    run = train(sums(12), model=tiny_model, out=tmp_path / "run", dtype=dtype, **QUICK)
    assert run.settings["dtype"] == run.record["model"]["dtype"] == dtype
    assert dtype_name(run.load()[0]) == dtype_name(run.load_base()[0]) == dtype


def test_without_a_format_the_run_records_which_was_taken(tiny_model, tmp_path):
    run = train(sums(12), model=tiny_model, out=tmp_path / "run", **QUICK)
    assert run.settings["dtype"] == dtype_name(load(tiny_model, bits=16)[0])


def test_a_format_that_the_model_has_not_is_refused(tiny_model, tmp_path):
    model, tokenizer = load(tiny_model, bits=16, dtype=torch.bfloat16)
    with pytest.raises(ConfigError, match="dtype is float32, but the model computes in bfloat16"):
        train(sums(8), model=model, tokenizer=tokenizer, out=tmp_path / "a", dtype="float32")
    with pytest.raises(ConfigError, match="weights of 32 bits compute in float32"):
        train(sums(8), model=tiny_model, out=tmp_path / "b", bits=32, dtype="bfloat16")


def test_a_resumed_run_says_what_else_of_the_machine_has_changed(tiny_model, tmp_path, caplog):
    rows = sums(12)
    named = QUICK | {"max_steps": 2, "save_every": 1, "dtype": "float32"}
    run = train(rows, model=tiny_model, out=tmp_path / "run", **named)
    run.update(status="interrupted", machine={**run.record["machine"], "threads": 77})
    with caplog.at_level(logging.WARNING):
        train(rows, resume=run.path, quiet=True)
    assert "threads was 77 and is now" in caplog.text


def test_a_resumed_run_keeps_the_peak_of_its_earlier_attempt(tiny_model, tmp_path):
    rows = sums(12)
    run = train(rows, model=tiny_model, out=tmp_path / "run", **QUICK | {"max_steps": 2})
    measured = {**run.record["measured"], "peak_memory": {"main": 10**13}}
    run.update(status="interrupted", measured=measured)
    assert train(rows, resume=run.path).record["measured"]["peak_memory"]["main"] == 10**13
