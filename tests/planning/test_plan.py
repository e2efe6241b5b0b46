"""A step is planned into the memory that is free, the fastest way that fits."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from strop.core import env
from strop.planning.machine import FreeMemory, free_memory, peak_resident
from strop.planning.memory import simulate
from strop.planning.plan import UNKNOWN, DrawnRows, plan_step
from strop.planning.product_cache import BYTES, batches, cache_bytes, micro_batch_sizes
from strop.planning.settings import Settings
from strop.planning.step import Setup
from strop.planning.step_memory import step_memory

LLAMA = {
    "vocab_size": 301, "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 7,
    "num_attention_heads": 6, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
MB = 1 << 20


@pytest.fixture(scope="module")
def llama():
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **LLAMA)).float()


def planned(model, free, lengths=(700,) * 40, **settings):
    chosen = Settings(batch_size=16, rank=8, **settings)
    rows = [(range(i, i + n), range(i, i + n)) for i, n in enumerate(lengths)]
    return plan_step(model, rows, chosen, FreeMemory(free * MB, "the limit of this test"))


@pytest.mark.parametrize("activations", ["keep", "checkpoint", "offload"])
def test_small_steps_predict_the_memory_of_a_deeper_model_and_a_larger_batch(llama, activations):
    memory = step_memory(llama, activations, rank=8, targets="all-linear")
    config = {"model_type": "llama", **LLAMA}
    rows = (900,) * 9
    (step,) = simulate(
        Setup(config=config, rows=rows, bits=32, dtype="float32", rank=8, activations=activations)
    )
    simulated = step.resident - step.at_peak["weights"]
    assert memory(7, sum(rows), sum(rows) - 9) == pytest.approx(simulated, rel=0.05)


def test_with_room_all_activations_stay_and_are_computed_at_once(llama):
    plan = planned(llama, 100_000)
    assert (plan.activations, plan.micro_batch_tokens) == ("keep", None)


def test_a_whole_batch_leaves_room_for_the_blocks_that_the_heap_keeps(llama):
    memory = step_memory(llama, "keep", rank=8, targets="all-linear")
    step = memory(7, 16 * 700, 16 * 699)
    assert planned(llama, 1.5 * step / MB).micro_batch_tokens is not None
    assert planned(llama, 2.5 * step / MB).micro_batch_tokens is None


def test_with_less_room_less_is_computed_at_once_then_fewer_activations_stay(llama):
    steps = []
    for free in (4096, 300, 60, 24, 13):
        steps.append(planned(llama, free))
    order = ("keep", "checkpoint", "offload")
    kinds = [order.index(step.activations) for step in steps]
    assert kinds == sorted(kinds)
    assert set(kinds) == {0, 1, 2}
    peaks = [step.peak for step in steps]
    assert peaks == sorted(peaks, reverse=True)


def test_what_is_set_by_hand_is_obeyed(llama):
    assert planned(llama, 200, activations="keep").activations == "keep"
    assert planned(llama, 200, micro_batch_tokens=1500).micro_batch_tokens == 1500


def test_where_nothing_fits_the_leanest_is_taken_and_the_text_has_the_lack(llama):
    plan = planned(llama, 1)
    assert plan.activations == "offload"
    assert "more than the limit of this test leaves" in plan.sentence


def test_blocks_of_no_known_family_get_a_budget_without_a_prediction():
    config = AutoConfig.for_model("gpt2", n_embd=32, n_layer=2, n_head=2, vocab_size=99)
    plan = planned(AutoModelForCausalLM.from_config(config), 100_000)
    assert (plan.peak, plan.micro_batch_tokens) == (None, UNKNOWN)


@pytest.mark.skipif(sys.platform != "linux", reason="ulimit -d counts allocations on Linux alone")
def test_a_limit_on_the_process_is_seen():
    code = (
        "import resource; from strop.planning.machine import free_memory\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))\n"
        "free = free_memory(); print(free.bytes, free.bound)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    free, _, bound = done.stdout.strip().partition(" ")
    assert bound == "ulimit -d"
    assert 1 << 30 < int(free) < 3 << 30


def test_without_a_limit_the_machine_is_the_bound():
    assert free_memory(torch.device("cpu")).bytes > 0


def test_a_model_of_fewer_blocks_than_are_simulated_is_planned():
    config = AutoConfig.for_model("qwen2", **LLAMA | {"num_hidden_layers": 1})
    assert planned(AutoModelForCausalLM.from_config(config).float(), 100_000).peak


def test_the_process_never_had_less_than_its_peak_so_far(llama):
    ballast = bytearray(400 * MB)
    ballast[:: 1 << 12] = bytes([1]) * len(ballast[:: 1 << 12])
    del ballast  # Linux notes the peak as memory is given back, and then says the same each time
    before = peak_resident()
    assert before > 400 * MB
    assert planned(llama, 100_000, lengths=(8,) * 4).peak == before


def test_the_memory_of_the_process_that_started_this_one_is_not_its_own():
    child = "from strop.planning.machine import peak_resident; print(peak_resident())"
    parent = (
        "import subprocess, sys; ballast = bytearray(1_500_000_000); "
        f"print(subprocess.check_output([sys.executable, '-c', {child!r}], text=True))"
    )
    peak = int(subprocess.check_output([sys.executable, "-c", parent], text=True))
    assert peak < 1_000_000_000


@pytest.mark.parametrize("labels", [130, 266, 690])
def test_labels_take_memory_until_a_tile_of_logits_is_full(labels):
    config = LLAMA | {"vocab_size": 60_000, "model_type": "llama"}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).float()
    memory = step_memory(model, "keep", rank=8, targets="all-linear")
    (step,) = simulate(
        Setup(
            config=config,
            rows=(700,),
            answers=(labels,),
            bits=32,
            dtype="float32",
            rank=8,
            activations="keep",
        )
    )
    simulated = step.resident - step.at_peak["weights"]
    assert memory(7, 700, labels) == pytest.approx(simulated, rel=0.05)


@pytest.mark.parametrize("answers", [1, 299])
def test_a_step_of_several_rows_takes_what_its_tokens_and_labels_take(llama, answers):
    memory = step_memory(llama, "keep", rank=8, targets="all-linear")
    rows = (300,) * 5
    (step,) = simulate(
        Setup(
            config={"model_type": "llama", **LLAMA},
            rows=rows,
            answers=(answers,) * 5,
            bits=32,
            dtype="float32",
            rank=8,
            activations="keep",
        )
    )
    simulated = step.resident - step.at_peak["weights"]
    assert memory(7, 1500, 5 * answers) == pytest.approx(simulated, rel=0.05)


def test_rows_that_share_a_prefix_are_planned_as_they_are_computed():
    rows = [([*range(600), i], [-100] * 600 + [i]) for i in range(16)]
    assert DrawnRows(rows, Settings(batch_size=16)).largest(None) == (600, 16)


def test_products_of_new_shapes_are_counted_until_their_cache_is_full(monkeypatch):
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    assert cache_bytes(10, 5, 0) == 50 * BYTES
    assert cache_bytes(10, 5000, 300) == 1024 * BYTES
    env.keep_few_products()
    assert cache_bytes(10, 5, 0) == 50 * BYTES
    assert cache_bytes(10, 5000, 300) == 128 * BYTES
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    env.keep_few_products()
    assert cache_bytes(10, 5000, 300) == 7 * BYTES
    assert list(micro_batch_sizes([5, 4, 3, 9], 9)) == [9, 3, 9]
    order = [number for batch in batches(7, 3, 3, seed=0) for number in batch]
    assert sorted(order) == list(range(7))


def test_in_16_bits_a_step_counts_its_products_of_different_shapes(llama):
    setup = {"config": {"model_type": "llama", **LLAMA}, "rows": (40, 40), "bits": 16}
    wide, narrow = simulate(Setup(dtype="float32", **setup), Setup(dtype="bfloat16", **setup))
    assert wide.products == 0
    assert narrow.products > 8
