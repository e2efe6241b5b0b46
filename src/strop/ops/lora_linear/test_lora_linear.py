import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from strop.core.errors import ShapeError, UnsupportedError
from strop.ops.lora_linear import IMPLS, eager, lora_linear
from strop.ops.lora_linear.cases import TESTED, Case
from strop.ops.lora_linear.parts import LinearParts, Packed, Workspace, write_dense
from strop.testing import (
    check_against_reference,
    check_documented_shapes,
    check_error,
    saved_bytes,
)

LORA = Case(37, 29, 43, R=5, has_bias=True)
DORA = dataclasses.replace(LORA, dora=True)
OTHERS = [i.name for i in IMPLS if i.name != "reference"]


def packed_weight(E, D):
    """Return a random weight in eight bits with one scale for each output."""
    rng = torch.Generator().manual_seed(4)
    return Packed(
        codes=torch.randint(0, 256, (E * D,), dtype=torch.uint8, generator=rng),
        table=torch.linspace(-1, 1, 256),
        scale_codes=torch.rand(E, generator=rng),
        scale_table=None,
        factors=None,
        shape=torch.Size((E, D)),
        bits=8,
        group=D,
    )


def layer(case, **changes):
    """Return the operation as a function of its tensors, so that each has its gradient checked."""

    def call(x, a=None, b=None, magnitude=None, *, impl):
        trained = [t for t in (a, b, magnitude) if t is not None]
        return lora_linear(x, dataclasses.replace(case.part(*trained), **changes), impl=impl)

    return call


@pytest.mark.parametrize("case", TESTED, ids=str)
@pytest.mark.parametrize("impl", OTHERS)
def test_agrees_with_reference(impl, case, device_for):
    device = device_for(impl)
    check_against_reference(layer(case), impl, *case.inputs(device), *case.trained(device))


def test_docstring_tells_the_shapes():
    (x,) = LORA.inputs("cpu")
    out = lora_linear(x, LORA.part(*LORA.trained("cpu")))
    check_documented_shapes(lora_linear, {"x": x}, out)


@pytest.mark.parametrize("case", [LORA, DORA, Case(37, 29, 43)], ids=["lora", "dora", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_weight_in_eight_bits_is_dequantised_for_each_product(case, dtype):
    case = dataclasses.replace(case, N=64, D=48, E=96, dtype=dtype)
    call = layer(case, weight=packed_weight(96, 48))
    check_against_reference(call, "eager", *case.inputs("cpu"), *case.trained("cpu"))


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_dropout_hides_the_drawn_inputs_from_the_adapter_and_scales_the_others(dora, dtype):
    case = dataclasses.replace(DORA if dora else LORA, dtype=dtype)
    weight, bias = case.frozen("cpu")
    leaves = [t.requires_grad_() for t in (*case.inputs("cpu"), *case.trained("cpu"))]
    x, a, b, *magnitude = leaves
    torch.manual_seed(11)
    y = lora_linear(x, case.part(a, b, *magnitude, dropout=0.3))
    torch.manual_seed(11)
    seen = x * (torch.rand_like(x) >= 0.3) / 0.7
    expected = x @ weight.T + case.scale * (seen @ a.T @ b.T)
    if dora:
        rows = (weight + case.scale * b @ a).detach()
        expected = expected * (magnitude[0] / rows.norm(dim=1))
    expected = expected + bias
    torch.testing.assert_close(y, expected)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    gradients = [torch.autograd.grad(out, leaves, dy) for out in (y, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_dropout_leaves_the_stated_share_out_and_none_without_it():
    x = torch.zeros(100, 200)
    a, b = torch.zeros(1, 200), torch.zeros(3, 1)
    weight = torch.zeros(3, 200)
    half, never = (LinearParts(weight, None, a, b, dropout=p) for p in (0.25, 0.0))
    masks = eager.draw_masks(x, (half, never, LinearParts(weight, dropout=0.25)))
    assert masks[1:] == (None, None)
    assert masks[0].dtype == torch.bool
    assert abs(masks[0].double().mean() - 0.75) < 0.02


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_layers_side_by_side_give_what_each_gives_alone(dtype, dropout):
    cases = [
        Case(20, 12, 9, R=3, dtype=dtype, has_bias=True),
        Case(20, 12, 5, dtype=dtype, has_bias=True),
        Case(20, 12, 7, R=2, dtype=dtype, dora=True),
        Case(20, 12, 4, R=1, dtype=dtype),
    ]
    parts = [case.part(*case.trained("cpu"), dropout=dropout) for case in cases]
    (x,) = cases[0].inputs("cpu")
    masks, workspace = eager.draw_masks(x, parts), Workspace()
    dy = torch.randn(20, 25, generator=torch.Generator().manual_seed(3)).to(dtype)
    together = eager.forward(x, parts, masks, workspace)
    alone = [eager.forward(x, (p,), (m,), workspace) for p, m in zip(parts, masks, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone, 1))
    slices = dy.split([9, 5, 7, 4], 1)
    each = [*zip(slices, parts, masks, strict=True)]
    dx = sum(
        eager.input_gradient(dy_part, (p,), (m,), workspace).double() for dy_part, p, m in each
    )
    loose = {"rtol": 0.05, "atol": 0.05} if dtype == torch.bfloat16 else {}
    ours = eager.input_gradient(dy, parts, masks, workspace)
    torch.testing.assert_close(ours.double(), dx, **loose)  # sums round in another order
    gradients = eager.adapter_gradients(dy, x, parts, masks, workspace)
    singles = [g for o, p, m in each for g in eager.adapter_gradients(o, x, (p,), (m,), workspace)]
    assert len(gradients) == len(singles) == sum(len(part.trained) for part in parts)
    for ours, theirs in zip(gradients, singles, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("case", [LORA, DORA, Case(37, 29, 43)], ids=["lora", "dora", "plain"])
def test_a_residual_is_added_and_stays_as_it_is(case, dtype):
    case = dataclasses.replace(case, dtype=dtype)
    part, (x,) = case.part(*case.trained("cpu")), case.inputs("cpu")
    residual = torch.randn(37, 43, generator=torch.Generator().manual_seed(3)).to(dtype)
    before, workspace = residual.clone(), Workspace()
    y = eager.forward(x, (part,), (None,), workspace, add_to=residual)
    rounded_twice = eager.forward(x, (part,), (None,), workspace) + residual
    exact = lora_linear(x, part, impl="reference").double() + residual.double()
    check_error("y", y.double(), exact, rounded_twice.double())
    assert torch.equal(residual, before)


@pytest.mark.parametrize("name", ["x", "a", "b", "magnitude"])
@pytest.mark.parametrize("impl", [i.name for i in IMPLS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gives_only_the_gradients_that_are_needed(impl, name, dtype, device_for):
    device = device_for(impl)
    case = dataclasses.replace(DORA, dtype=dtype)
    tensors = (*case.inputs(device), *case.trained(device))
    named = dict(zip(("x", "a", "b", "magnitude"), tensors, strict=True))
    named[name].requires_grad_()
    layer(case)(**named, impl=impl).sum().backward()
    assert [key for key, t in named.items() if t.grad is not None] == [name]


def test_what_needs_no_gradient_costs_no_product():
    N, D, E, R = 37, 29, 43, 5
    for x_needs, adapter_needs in ((True, False), (False, True), (True, True)):
        (x,), trained = LORA.inputs("cpu"), LORA.trained("cpu")
        x.requires_grad_(x_needs)
        y = lora_linear(x, LORA.part(*(t.requires_grad_(adapter_needs) for t in trained)))
        with FlopCounterMode(display=False) as counter:
            y.sum().backward()
        input_gradient = 2 * E * R * D + 2 * N * E * D  # fold, then one product
        adapter_gradients = 2 * N * R * (D + E) + 2 * N * R * (D + E)
        expected = x_needs * input_gradient + adapter_needs * adapter_gradients
        assert counter.get_total_flops() == expected


@pytest.mark.parametrize("case", [c for c in TESTED if c.N], ids=str)
def test_keeps_only_its_input(case):
    (x,) = case.inputs("cpu")
    x = x.contiguous().requires_grad_()
    part = case.part(*(t.requires_grad_() for t in case.trained("cpu")))
    assert saved_bytes(lambda: lora_linear(x, part, impl="eager")) == x.nbytes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a": torch.zeros(2, 7)}, r"A \[2, 7\] and B \[6, 2\]"),
        ({"b": torch.zeros(6, 3)}, r"A \[2, 8\] and B \[6, 3\]"),
        ({"b": None}, r"A \[2, 8\] and B None"),
        ({"weight": torch.zeros(6, 9)}, r"got x \[3, 8\], weight \[6, 9\]"),
        ({"bias": torch.zeros(5)}, r"bias \[5\]"),
        ({"magnitude": torch.zeros(6, 1)}, r"magnitude \[6, 1\]"),
        ({"a": None, "b": None, "magnitude": torch.zeros(6)}, r"A None.* magnitude \[6\]"),
    ],
    ids=["A", "B", "no B", "weight", "bias", "magnitude", "magnitude alone"],
)
def test_tensors_that_do_not_fit_are_named(changes, message):
    part = LinearParts(torch.zeros(6, 8), None, torch.zeros(2, 8), torch.zeros(6, 2))
    with pytest.raises(ShapeError, match=message):
        lora_linear(torch.zeros(3, 8), dataclasses.replace(part, **changes))


def test_rows_without_a_batch_dimension_are_named():
    with pytest.raises(ShapeError, match=r"got x \[8\]"):
        lora_linear(torch.zeros(8), LinearParts(torch.zeros(6, 8)))


def test_an_unknown_implementation_is_named():
    with pytest.raises(UnsupportedError, match="impl='gpu' is not known"):
        lora_linear(*LORA.inputs("cpu"), LORA.part(), impl="gpu")


def test_a_workspace_gives_the_same_memory_again_for_each_name_and_dtype():
    workspace, like = Workspace(), torch.zeros(1)
    first = workspace.take("weight", (4, 6), like)
    assert workspace.take("weight", (2, 3), like).data_ptr() == first.data_ptr()
    others = [workspace.take("dora", (4, 6), like), workspace.take("weight", (4, 6), like.double())]
    assert len({t.data_ptr() for t in (first, *others)}) == 3
    assert workspace.take("weight", (9, 9), like).shape == (9, 9)


@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
def test_weights_stacked_for_one_product_err_no_more_than_each_by_itself(packed, monkeypatch):
    cases = [Case(70, 48, E, R=R, dtype=torch.bfloat16) for E, R in ((96, 3), (32, None), (64, 2))]
    parts = [case.part(*case.trained("cpu")) for case in cases]
    if packed:
        parts[0] = dataclasses.replace(parts[0], weight=packed_weight(96, 48))
    (x,), masks = cases[0].inputs("cpu"), (None, None, None)
    dy = torch.randn(70, 192, generator=torch.Generator().manual_seed(3)).bfloat16()
    exact = []
    for part, upstream in zip(parts, dy.double().split([96, 32, 64], 1), strict=True):
        weight = write_dense(part.weight, torch.empty(part.weight.shape, dtype=torch.float64))
        if part.a is not None:
            weight += part.scale * part.b.double() @ part.a.double()
        exact.append((x.double() @ weight.T, upstream @ weight))
    results = []
    for limit in (1, 1000):
        monkeypatch.setattr(eager, "STACKED_FROM", limit)
        forward = eager.forward(x, parts, masks, Workspace())
        results.append((forward, eager.input_gradient(dy, parts, masks, Workspace())))
    truths = torch.cat([y for y, _ in exact], 1), sum(dx for _, dx in exact)
    for name, ours, each, truth in zip(("y", "dx"), *results, truths, strict=True):
        check_error(name, ours.double(), truth, each.double())


@pytest.mark.parametrize("tokens", [64, 2 * eager.STACKED_FROM])
@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_in_16_bits_what_a_small_adapter_adds_is_not_rounded_away(tokens, dora):
    """Added to a product that is rounded already, a third of it would be lost."""
    rng = torch.Generator().manual_seed(0)
    N, D, R = tokens, 96, 4
    x = torch.randn(N, D, generator=rng).bfloat16()
    weights = [torch.randn(E, D, generator=rng).bfloat16() for E in (512, 256)]
    a = [torch.randn(R, D, generator=rng) / D for _ in weights]
    b = [torch.randn(len(w), R, generator=rng) / 16 for w in weights]
    magnitudes = [w.double().norm(dim=1).float() if dora else None for w in weights]
    with_adapter, without = (
        [
            LinearParts(w, a=a_, b=scale * b_, scale=1.0, magnitude=m)
            for w, a_, b_, m in zip(weights, a, b, magnitudes, strict=True)
        ]
        for scale in (1, 0)
    )
    dy = torch.randn(N, sum(map(len, weights)), generator=rng).bfloat16()
    masks = eager.draw_masks(x, without)

    def outputs(parts):
        return eager.forward(x, parts, masks, Workspace())

    def gradients(parts):
        return eager.input_gradient(dy, parts, masks, Workspace())

    added = [x.double() @ (b_.double() @ a_.double()).T for a_, b_ in zip(a, b, strict=True)]
    lifted = sum(
        piece.double() @ b_.double() @ a_.double()
        for piece, a_, b_ in zip(dy.split([512, 256], 1), a, b, strict=True)
    )
    for run, expected in ((outputs, torch.cat(added, 1)), (gradients, lifted)):
        if dora and run is gradients:
            continue  # its own product is added after the wide one, as the factor comes between
        difference = run(with_adapter).double() - run(without).double()
        share = (difference * expected).sum() / expected.square().sum()
        assert 0.9 < share < 1.1, f"{run.__name__}: {share:.2f} of what the adapter adds"
