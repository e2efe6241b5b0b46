"""On a card attention among runs is PyTorch's flash kernels; asked of fake CUDA tensors."""

import pytest

from tests.gpu import children

pytestmark = pytest.mark.slow

FLASH = ["_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_backward"]
EFFICIENT = [
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_efficient_attention_backward",
]
KERNELS = {
    "bfloat16": FLASH,
    "float16": FLASH,
    "float32": EFFICIENT,
    "a window that cuts": [],
    "a soft-cap": [],
    "heads of 47": [],
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    words = ["-m", "strop.core.simulated.fake_cuda", "tests.gpu.attending"]
    child = children.Child(words, tmp_path_factory.mktemp("attending"))
    return {line["case"]: line for line in child.lines()}


@pytest.mark.parametrize("case", KERNELS)
def test_attention_asks_for_the_kernels_that_can(case, seen):
    assert seen[case]["kernels"] == KERNELS[case]


@pytest.mark.parametrize("case", KERNELS)
def test_attention_makes_nothing_larger_than_the_buffer_of_queries_keys_and_values(case, seen):
    assert seen[case]["largest"] <= 4096 * 48 * 128
