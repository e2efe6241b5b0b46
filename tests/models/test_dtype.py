"""The format to compute in: a step is timed once a machine and model, whoever asks, and remembered."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import LlamaConfig

from strop.core.files import read_cached, write_cached
from strop.models import timed_step
from strop.models.dtype import compute_dtype, reason

NAMES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SMALL = LlamaConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2, vocab_size=300)


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    """Give the folder of an empty cache where choices lie, and let a step be short."""
    monkeypatch.setenv("STROP_CACHE", str(tmp_path))
    monkeypatch.setattr(timed_step, "TOKENS", 64)
    monkeypatch.setattr(timed_step, "WORK", 2e9)
    monkeypatch.setattr(timed_step, "ROUNDS", 2)
    return tmp_path / "compute_dtype"


@pytest.mark.parametrize("bits", [4, 16])
def test_the_faster_format_is_taken_remembered_and_not_timed_again(bits, shelf):
    first = compute_dtype(bits=bits)
    (file,) = shelf.glob("*.json")
    cached = read_cached(file)
    assert first == NAMES[cached["dtype"]]
    assert all(seconds > 0 for seconds in cached["seconds"].values())
    assert cached["seconds"].keys() == NAMES.keys()
    other = next(name for name in NAMES if name != cached["dtype"])
    write_cached(file, {**cached, "dtype": other})
    assert compute_dtype(bits=bits) == NAMES[other]
    assert all(name in reason(None, bits) for name in NAMES)


def test_however_slow_the_first_step_is_it_warms_up_only(monkeypatch):
    monkeypatch.setattr(timed_step, "SECONDS", 0)  # it takes longer, as where C++ is compiled
    rounds = timed_step.step_seconds(None, 16)
    assert [len(of) for of in rounds.values()] == [timed_step.FEWEST] * 2


def test_those_that_ask_at_once_choose_the_same(shelf):
    with ThreadPoolExecutor(3) as pool:
        chosen = set(pool.map(lambda _: compute_dtype(), range(3)))
    assert len(chosen) == len(list(shelf.glob("*.json"))) == 1


@pytest.mark.parametrize("text", ["", '{"dtype": "float32"}'])
def test_a_damaged_memory_is_timed_again(text, shelf):
    compute_dtype()
    (file,) = shelf.glob("*.json")
    file.write_text(text)
    second = compute_dtype()
    assert NAMES[read_cached(file)["dtype"]] == second


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "file"))
    assert compute_dtype() in NAMES.values()


def test_a_model_whose_steps_take_no_time_computes_in_float32_untimed(shelf):
    assert compute_dtype(SMALL) == torch.float32
    assert not shelf.exists()
    assert reason(SMALL, 16) == ""


def test_timing_leaves_random_numbers_as_they_were():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    compute_dtype()
    assert torch.equal(torch.rand(3), expected)


def test_a_device_that_cannot_be_timed_computes_in_float32():
    assert compute_dtype(device="meta") == torch.float32
