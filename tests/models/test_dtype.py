import time

import torch

from strop.models.dtype import compute_dtype


def test_the_cpu_choice_is_made_once_and_kept():
    first = compute_dtype("cpu")
    start = time.perf_counter()
    assert compute_dtype(torch.device("cpu")) == first
    assert time.perf_counter() - start < 0.01
    assert first in (torch.float32, torch.bfloat16)


def test_a_device_that_cannot_be_timed_computes_in_float32():
    assert compute_dtype("meta") == torch.float32
