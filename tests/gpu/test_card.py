"""Halves of a decoder block on a card: they err no more than on a CPU.

The operations' own tests run on a card too: `pytest -m gpu` is all of them. The parameter of these is
the implementation, so that Triton's interpreter runs them where there is no card.
"""

import dataclasses

import pytest
import torch

from strop.layers.block import run_half
from strop.layers.cases import Case, D, N
from strop.ops.lora_linear.parts import Workspace
from strop.testing import check_error

CASES = [
    Case("lora"),
    Case("dora", post_norm=True, head_norms=True),
    Case("lora", post_norm=True, head_norms=True, window=4, softcap=2.0),
]
SEEDS = range(5, 9)
"""Of inputs and gradients from above. The errors of one are too few to compare: on some processors
they are small by chance."""
ROWS = {"attention": N, "mlp": 8 * N}
"""Of an input. Of few rows the largest error of a gradient is that of one large product."""


def moved(value, device):
    """Return a half with its tensors on a device, its adapter in float32 or wider, as it is trained."""
    if isinstance(value, torch.Tensor):
        wide = torch.promote_types(value.dtype, torch.float32)
        dtype = wide if value.requires_grad else value.dtype
        return value.detach().to(device, dtype).requires_grad_(value.requires_grad)
    if isinstance(value, tuple):
        return tuple(moved(member, device) for member in value)
    if isinstance(value, Workspace) or not dataclasses.is_dataclass(value):
        return value
    fields = [field.name for field in dataclasses.fields(value) if field.init]
    return dataclasses.replace(value, **{n: moved(getattr(value, n), device) for n in fields})


def results(kind, case, dtype, device):
    """Return y and every gradient by name, on the CPU in float64, for each of the seeds."""
    case = dataclasses.replace(case, dtype=dtype)
    half = moved(getattr(case, kind)(), device)
    names = ["y", "gradient of x", *(f"gradient {i}" for i in range(len(half.trained)))]
    found = {name: [] for name in names}
    for seed in SEEDS:
        rng = torch.Generator().manual_seed(seed)
        x, above = (torch.randn(ROWS[kind], D, generator=rng).to(device, dtype) for _ in range(2))
        y = run_half(half, x.requires_grad_())
        made = torch.autograd.grad(y, (x, *half.trained), above)
        for name, t in zip(names, (y, *made), strict=True):
            found[name].append(t.detach().cpu().double())
    return {name: torch.stack(each) for name, each in found.items()}


@pytest.mark.parametrize("layer", CASES, ids=["lora", "dora and norms", "window and soft-cap"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["attention", "mlp"])
@pytest.mark.parametrize("impl", ["triton"])
def test_a_half_errs_no_more_on_a_card_than_on_a_cpu(
    impl, kind, dtype, layer, device_for, monkeypatch
):
    device = device_for(impl)
    ours = results(kind, layer, dtype, device)
    truth = results(kind, layer, torch.float64, "cpu")
    monkeypatch.setattr("strop.core.env.INTERPRETED", False)  # the yardstick is the plain path
    yardstick = results(kind, layer, dtype, "cpu")
    for name, got in ours.items():
        check_error(f"{kind}, {name}", got, truth[name], yardstick[name])
