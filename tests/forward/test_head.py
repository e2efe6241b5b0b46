"""What the head says of all logits, computed without them."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from strop.forward.fused_head import FusedHeadOptions
from strop.forward.head import Head

MEMORY = """
import torch
from torch import nn
from strop.forward.fused_head import FusedHeadOptions
from strop.forward.head import Head
from strop.planning.machine import peak_resident
layer = nn.Linear(256, 400_000, bias=False, dtype=torch.bfloat16)
head = Head(layer, layer.weight.detach(), None, 1.0, None)
hidden, targets = torch.randn(4, 256, dtype=torch.bfloat16), torch.arange(4)
options = FusedHeadOptions(outputs=("log_probs", "mean_logits"))
head.score(hidden[:1], targets[:1], FusedHeadOptions(outputs=("log_probs",)))
before = peak_resident()
head.score(hidden, targets, options)
print(peak_resident() - before, layer.weight.nbytes)
"""


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_mean_of_the_logits_is_that_of_all_of_them(dtype):
    torch.manual_seed(0)
    width = 64
    layer = nn.Linear(width, 70_000, dtype=dtype)
    head = Head(layer, layer.weight.detach(), layer.bias.detach(), 0.5, None)
    hidden, targets = torch.randn(5, width, dtype=dtype), torch.arange(5)
    options = FusedHeadOptions(outputs=("log_probs", "mean_logits"))
    mean = head.score(hidden, targets, options).mean_logits
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    logits = nn.functional.linear(hidden.to(wide), layer.weight.to(wide), layer.bias.to(wide))
    torch.testing.assert_close(mean, 0.5 * logits.mean(-1))


def test_the_mean_of_the_logits_needs_no_copy_of_the_head():
    out = subprocess.check_output([sys.executable, "-c", MEMORY], text=True)
    grown, weight = map(int, out.split())
    assert grown < weight / 4
