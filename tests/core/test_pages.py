"""Large pages under tensors change neither their numbers nor where they lie."""

import torch

from strop.core.system.pages import LARGE, _pages, use_large_pages


def test_tensors_keep_their_numbers_and_addresses():
    weights = [torch.arange(3 * LARGE // 4 + 5) + i for i in range(4)]
    before = [(w.data_ptr(), w.clone()) for w in weights]
    for _ in range(2):
        use_large_pages([*weights, weights[0][7:], torch.empty(0)])
    for weight, (address, numbers) in zip(weights, before, strict=True):
        assert weight.data_ptr() == address
        assert torch.equal(weight, numbers)


def test_every_page_that_a_tensor_touches_is_named_once():
    tensors = [torch.empty(size, dtype=torch.uint8) for size in (1, LARGE, 5 * LARGE + 3)]
    pages = list(_pages([*tensors, *tensors]))
    assert len(set(pages)) == len(pages)
    for tensor in tensors:
        first, last = tensor.data_ptr(), tensor.data_ptr() + len(tensor) - 1
        assert {first // LARGE * LARGE, last // LARGE * LARGE} <= set(pages)
