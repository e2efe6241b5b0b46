"""The halves beside the same composition in plain PyTorch."""

import dataclasses
import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from strop.layers.block import run_half
from strop.layers.cases import ADAPTERS, SEGMENTS, C, Case, D, F, H, K, N, R
from strop.ops.glu import glu
from strop.ops.rms_norm import rms_norm
from strop.ops.rope import rope
from strop.ops.segment_attention import segment_attention
from strop.testing import check_error

HALVES = {"attention": Case.attention, "mlp": Case.mlp}
CASES = {
    "attention": [
        Case(adapter, post, heads, window, softcap)
        for adapter, post, heads, window, softcap in itertools.product(
            ADAPTERS, (False, True), (False, True), (None, 4), (None, 2.0)
        )
    ],
    "mlp": [Case(adapter, post) for adapter, post in itertools.product(ADAPTERS, (False, True))],
}
for cases in CASES.values():
    cases += [Case(adapter, one_product=True) for adapter in ADAPTERS]
EVERY = [(kind, case) for kind, cases in CASES.items() for case in cases]
FLOAT32 = [
    Case("lora", dtype=torch.float32),
    Case("dropout", dtype=torch.float32, head_norms=True),
    Case("dora", post_norm=True, head_norms=True, window=4, softcap=2.0, dtype=torch.float32),
    Case("lora", post_norm=True, dtype=torch.float32, one_product=True),
    Case("weights", post_norm=True, head_norms=True, dtype=torch.float32),
]


def plain(half, x, masks):
    """Return the half's y, differentiable by autograd."""
    h = normed(x, half.norm)
    if isinstance(half, type(Case().mlp())):
        gate_up = torch.cat([*map(linear, [h, h], half.gate_up, masks[0])], 1)
        added = linear(glu(gate_up, half.activation, impl="reference"), half.down, masks[1][0])
    else:
        qkv = torch.cat([*map(linear, [h, h, h], half.qkv, masks[0])], 1)
        q, k, v = qkv.view(len(x), H + 2 * K, C).split([H, K, K], 1)
        if half.q_norm is not None:
            q, k = normed(q, half.q_norm), normed(k, half.k_norm)
        angles = half.attended.cos, half.attended.sin
        q, k = (rope(t, *angles, impl="reference") for t in (q, k))
        settings = {"scale": half.scale, "window": half.window, "softcap": half.softcap}
        mixed = segment_attention(q, k, v, SEGMENTS, **settings, impl="reference")
        added = linear(mixed.flatten(1), half.o, masks[1][0])
    return x + (added if half.post_norm is None else normed(added, half.post_norm))


def normed(x, norm):
    return rms_norm(x, norm.weight, eps=norm.eps, unit_offset=norm.unit_offset, impl="reference")


def linear(x, part, mask):
    y = x @ part.weight.T
    if part.a is not None:
        seen = (x if mask is None else x * mask / (1 - part.dropout)).to(part.a.dtype)
        y = y + (part.scale * (seen @ part.a.T @ part.b.T)).to(y.dtype)
        if part.magnitude is not None:
            rows = (part.weight + part.scale * part.b @ part.a).detach()
            y = y * (part.magnitude / rows.norm(dim=1)).to(y.dtype)
    return y + part.bias


def both_ways(kind, case):
    """Return (y, gradients) of the half and of the plain composition, under the same masks."""
    half, x = HALVES[kind](case), case.x().requires_grad_()
    before = x.detach().clone()
    torch.manual_seed(5)
    masks = half.masks(x)
    torch.manual_seed(5)
    results = []
    for y in (run_half(half, x), plain(half, x, masks)):
        dy = torch.randn(N, D, generator=torch.Generator().manual_seed(6)).to(x)
        above = dy.clone()
        results.append((y, torch.autograd.grad(y, [x, *half.trained], dy)))
        assert torch.equal(dy, above)
    assert torch.equal(x, before)
    return results


@pytest.mark.parametrize(("kind", "case"), EVERY, ids=str)
def test_a_half_equals_its_parts_one_after_the_other(kind, case):
    (y, gradients), (expected, exact) = both_ways(kind, case)
    torch.testing.assert_close(y, expected)
    for ours, theirs in zip(gradients, exact, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("case", FLOAT32, ids=str)
def test_in_float32_a_half_equals_its_parts_to_rounding(kind, case):
    (y, gradients), (expected, exact) = both_ways(kind, case)
    assert (y - expected).norm() <= 1e-5 * expected.norm()
    for ours, theirs in zip(gradients, exact, strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def doubled(part):
    """Return a half, or a part of one, with every number in float64, and leaves where there were."""
    if isinstance(part, torch.Tensor):
        return part.detach().double().requires_grad_(part.requires_grad)
    if isinstance(part, tuple):
        return tuple(map(doubled, part))
    if dataclasses.is_dataclass(part) and not isinstance(part, type(SEGMENTS)):
        return type(part)(*(doubled(getattr(part, f.name)) for f in dataclasses.fields(part)))
    return part


def in_float64(kind, case):
    """Return (y, gradients) of the half's plain composition, of the same numbers in float64."""
    half, x = HALVES[kind](case), case.x()
    torch.manual_seed(5)
    masks = half.masks(x)
    exact, x = doubled(half), x.double().requires_grad_()
    y = plain(exact, x, masks)
    dy = torch.randn(N, D, generator=torch.Generator().manual_seed(6)).to(case.dtype).double()
    return y, torch.autograd.grad(y, [x, *exact.trained], dy)


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("adapter_dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_in_bfloat16_a_half_errs_no_more_than_its_parts_do(kind, adapter, adapter_dtype):
    columns = []
    for seed in range(200):  # many halves: the largest error of few is luck, they are so small
        case = Case(adapter, dtype=torch.bfloat16, adapter_dtype=adapter_dtype, seed=seed)
        ways = *both_ways(kind, case), in_float64(kind, case)
        ours, plainly, truth = ([t.detach().double() for t in (y, *g)] for y, g in ways)
        columns.append([*zip(ours, truth, plainly, strict=True)])
    for number, halves in enumerate(zip(*columns, strict=True)):
        sizes = [exact.square().mean().sqrt() for _, exact, _ in halves]
        parts = zip(
            *([t / s for t in half] for half, s in zip(halves, sizes, strict=True)), strict=True
        )
        check_error(f"result {number}", *(torch.stack(part) for part in parts))


@pytest.mark.parametrize(
    ("kind", "outputs"), [("attention", (H + 2 * K) * C), ("mlp", 2 * F)], ids=list(HALVES)
)
def test_an_input_without_a_gradient_costs_no_product(kind, outputs):
    def products(x_needs_grad):
        half = HALVES[kind](Case())
        y = run_half(half, Case().x().requires_grad_(x_needs_grad))
        with FlopCounterMode(display=False) as counter:
            y.sum().backward()
        assert all(t.grad is not None for t in half.trained)
        return counter.get_total_flops()

    folding = 2 * R * D * outputs
    assert products(True) - products(False) == 2 * N * D * outputs + folding


@pytest.mark.parametrize("kind", HALVES)
def test_only_tensors_that_want_a_gradient_get_one(kind):
    half = HALVES[kind](Case())
    for i, tensor in enumerate(half.trained):
        tensor.requires_grad_(i % 3 == 0)
    run_half(half, Case().x()).sum().backward()
    assert [t.grad is not None for t in half.trained] == [t.requires_grad for t in half.trained]


@pytest.mark.parametrize("kind", HALVES)
def test_without_a_gradient_to_give_a_half_stays_out_of_the_graph(kind):
    half = HALVES[kind](Case("none"))
    assert not run_half(half, Case().x()).requires_grad
    with torch.no_grad():
        assert not run_half(HALVES[kind](Case()), Case().x().requires_grad_()).requires_grad
