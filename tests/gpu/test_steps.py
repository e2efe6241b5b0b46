"""On a card a training step is strop's kernels and PyTorch's products and attention, nothing slower."""

import pytest

from tests.gpu import children

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


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    words = ["-m", "strop.core.fake_cuda", "tests.gpu.stepping"]
    child = children.Child(words, tmp_path_factory.mktemp("stepping"))
    return {line["step"]: line for line in child.lines()}


@pytest.mark.parametrize("step", KERNELS)
def test_a_step_on_a_card_launches_every_kernel(step, steps):
    assert set(steps[step]["kernels"]) == KERNELS[step]


@pytest.mark.parametrize("step", KERNELS)
def test_a_step_on_a_card_goes_no_plain_way_and_never_waits(step, steps):
    assert not set(steps[step]["operators"]) & (IN_PLACE_OF_KERNELS | THAT_WAIT)
