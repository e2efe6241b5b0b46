"""On a card a training step is strop's kernels and PyTorch's products and attention, nothing slower.

And what it holds is known to the byte: `memory.toml` says how much, so that no change goes unseen.
"""

import tomllib
from pathlib import Path

import pytest

from strop.planning.memory import simulate
from strop.planning.step import Setup
from tests.gpu import children, stepping

pytestmark = pytest.mark.slow

COMMON = {
    "add_low_rank._add_kernel",
    "glu._backward_kernel",
    "glu._forward_kernel",
    "linear_log_prob._score_kernel",
    "mixed_product._product_kernel",
    "rms_norm._backward_kernel",
    "rms_norm._forward_kernel",
    "rope._rotation_kernel",
}
KERNELS = {
    "Llama, QLoRA": COMMON | {"dequantize._dequantize_kernel"},
    "Llama, LoRA": COMMON,
    "Llama, LoRA, offload": COMMON,
    "Gemma 3, QLoRA": COMMON | {"dequantize._dequantize_kernel"},
}
IN_PLACE_OF_KERNELS = {
    "_log_softmax", "_softmax", "gelu", "gelu_backward", "index", "repeat_interleave", "rsqrt",
    "silu", "silu_backward", "tanh",
}  # fmt: skip
"""What the plain ways of our operations are made of."""
THAT_WAIT = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero", "unique_consecutive"}
"""What stops the processor until the card has come so far."""

MEMORY = tomllib.loads(Path(__file__).with_name("memory.toml").read_text())
LINEARS = [(128, 128), (128, 64), (128, 64), (128, 128), (128, 256), (128, 256), (256, 128)]
"""[in, out] of the linear layers of a block of Llama."""


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    words = ["-m", "strop.core.simulated.fake_cuda", "tests.gpu.stepping"]
    child = children.Child(words, tmp_path_factory.mktemp("stepping"))
    return {line["step"]: line for line in child.lines()}


@pytest.mark.parametrize("step", KERNELS)
def test_a_step_on_a_card_launches_every_kernel(step, steps):
    assert set(steps[step]["kernels"]) == KERNELS[step]


@pytest.mark.parametrize("step", KERNELS)
def test_a_step_on_a_card_goes_no_plain_way_and_never_waits(step, steps):
    assert not set(steps[step]["operators"]) & (IN_PLACE_OF_KERNELS | THAT_WAIT)


@pytest.mark.parametrize("step", KERNELS)
def test_a_step_on_a_card_holds_these_bytes(step, steps):
    kinds = "peak", "before", "phases", "at_peak", "flops"
    assert {kind: steps[step][kind] for kind in kinds} == MEMORY[step]
    assert sum(steps[step]["at_peak"].values()) == max(steps[step]["phases"].values())


@pytest.mark.parametrize("step", [step for step in KERNELS if step.startswith("Llama")])
def test_the_adapter_and_the_optimizer_hold_what_their_sizes_say(step, steps):
    held = steps[step]["at_peak"]
    numbers = 2 * sum(16 * (i + o) for i, o in LINEARS)
    assert held["adapter"] == 4 * numbers
    counters = 2 * 2 * len(LINEARS)
    assert held["optimizer"] == 2 * 4 * numbers + 4 * counters


def test_a_process_that_is_not_told_to_pretend_simulates_a_card_alike(steps):
    name = "Llama, QLoRA"
    (step,) = simulate(Setup(**stepping.COMMON | stepping.STEPS[name]))
    assert (step.peak, step.flops) == (MEMORY[name]["peak"], MEMORY[name]["flops"])
