"""Attention on fake CUDA tensors: which kernels PyTorch is asked for, and the largest tensor made.

Run in a process with the fake device; prints a line of JSON for each case.
"""

import json
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from strop.ops.segment_attention import segment_attention
from strop.ops.segment_attention.segments import Segments
from strop.testing.gpu.launch import on_card
from strop.testing.gpu.launching import FakeCuda

TREE = Segments((1024, 512, 512, 2048), (None, 0, 0, None))
CASES = {
    "bfloat16": {},
    "float16": {"dtype": torch.float16},
    "float32": {"dtype": torch.float32},
    "a window that cuts": {"window": 256},
    "a soft-cap": {"softcap": 50.0},
    "heads of 47": {"features": 47},
}


class Seen(TorchDispatchMode):
    """Takes note of attention kernels and of the size of every result."""

    def __init__(self):
        super().__init__()
        self.kernels, self.largest = set(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if "attention" in func.name():
            self.kernels.add(func.name().removeprefix("aten::"))
        sizes = [t.numel() for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        self.largest = max([self.largest, *sizes])
        return result


def attend(window=None, softcap=None, dtype=torch.bfloat16, features=128):
    q = on_card(TREE.size, 32, features, dtype=dtype, beside=16 * features).requires_grad_()
    k, v = (on_card(TREE.size, 8, features, dtype=dtype).requires_grad_() for _ in range(2))
    y = segment_attention(q, k, v, TREE, window=window, softcap=softcap, impl="flash")
    y.backward(torch.empty_like(y))
    assert (y.shape, y.dtype, y.device.type) == (q.shape, dtype, "cuda")
    for t in (q, k, v):
        assert (t.grad.shape, t.grad.dtype) == (t.shape, dtype)


if __name__ == "__main__":
    for name, settings in CASES.items():
        seen = Seen()
        with torch.autograd.set_multithreading_enabled(False), FakeCuda(), seen:
            attend(**settings)
        line = {"case": name, "kernels": sorted(seen.kernels), "largest": seen.largest}
        sys.stdout.write(json.dumps(line) + "\n")
