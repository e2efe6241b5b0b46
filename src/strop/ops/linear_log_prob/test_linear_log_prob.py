import importlib

import pytest
import torch

from strop.core import env
from strop.core.errors import ShapeError, UnsupportedError
from strop.ops.linear_log_prob import IMPLS, linear_log_prob
from strop.ops.linear_log_prob.cases import TESTED, Case
from strop.ops.linear_log_prob.tiled import tile_rows
from strop.testing import check_against_reference, check_documented_shapes, saved_bytes

WAYS = [("cpu", True), ("cpu", False), ("triton", False)]
"""Implementations; "cpu" in C++ and in plain PyTorch."""


@pytest.mark.parametrize("case", TESTED, ids=str)
@pytest.mark.parametrize(("impl", "native"), WAYS)
def test_agrees_with_reference_when_everything_is_trained(
    impl, case, native, device_for, monkeypatch
):
    monkeypatch.setattr(env, "NATIVE", native)
    device = device_for(impl)
    check_against_reference(
        linear_log_prob, impl, *case.inputs(device), settings=case.settings(device)
    )


@pytest.mark.parametrize("case", TESTED, ids=str)
@pytest.mark.parametrize(("impl", "native"), WAYS)
def test_agrees_with_reference_when_the_head_is_frozen(impl, case, native, device_for, monkeypatch):
    monkeypatch.setattr(env, "NATIVE", native)
    hidden, weight, targets = case.inputs(device_for(impl))
    settings = case.settings(device_for(impl))

    def frozen(hidden, *, impl):
        return linear_log_prob(hidden, weight, targets, impl=impl, **settings)

    check_against_reference(frozen, impl, hidden)


@pytest.mark.parametrize(("impl", "native"), WAYS)
def test_every_part_of_a_row_counts_whatever_is_taken_at_once(
    impl, native, device_for, monkeypatch
):
    monkeypatch.setattr(env, "NATIVE", native)
    case = Case(2, 16, 9_001, scale=0.5, softcap=2.0, has_bias=True)
    device = device_for(impl)
    check_against_reference(
        linear_log_prob, impl, *case.inputs(device), settings=case.settings(device)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("head_dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("impl", ["cpu", "triton"])
def test_the_size_of_tiles_and_slices_changes_nothing(
    impl, head_dtype, dtype, device_for, monkeypatch
):
    case = Case(61, 16, 515, dtype, head_dtype=head_dtype)
    hidden, weight, targets = case.inputs(device_for(impl))
    module = importlib.import_module(f"strop.ops.linear_log_prob.{impl}")
    monkeypatch.setattr(module, "TILE_BYTES", 21 * 515 * 4)
    monkeypatch.setattr(module, "SLICE_BYTES", 100 * 16 * 4)
    check_against_reference(linear_log_prob, impl, hidden, weight, targets)

    def frozen(hidden, *, impl):
        return linear_log_prob(hidden, weight, targets, impl=impl)

    check_against_reference(frozen, impl, hidden)


def test_docstring_tells_the_shapes():
    case = Case(3, 4, 5, has_bias=True)
    hidden, weight, targets = case.inputs("cpu")
    settings = case.settings("cpu")
    out = linear_log_prob(hidden, weight, targets, **settings)
    named = {"hidden": hidden, "weight": weight, "targets": targets, "bias": settings["bias"]}
    check_documented_shapes(linear_log_prob, named, out._asdict())


@pytest.mark.parametrize(("impl", "native"), WAYS)
def test_rows_of_equal_logits_have_full_entropy_and_the_first_token_on_top(
    impl, native, device_for, monkeypatch
):
    monkeypatch.setattr(env, "NATIVE", native)
    with torch.device(device_for(impl)):
        out = linear_log_prob(torch.zeros(2, 4), torch.ones(8, 4), torch.tensor([0, 3]), impl=impl)
        torch.testing.assert_close(out.entropy, torch.full((2,), 8.0).log())
    assert out.is_top1.tolist() == [True, False]


@pytest.mark.parametrize(("impl", "native"), WAYS)
def test_huge_logits_stay_finite(impl, native, device_for, monkeypatch):
    monkeypatch.setattr(env, "NATIVE", native)
    with torch.device(device_for(impl)):
        hidden = torch.full((2, 1), 1e4, requires_grad=True)
        weight, targets = torch.tensor([[1.0], [-1.0], [0.5]]), torch.tensor([0, 1])
    out = linear_log_prob(hidden, weight, targets, impl=impl)
    out.log_prob.sum().backward()
    assert out.log_prob.tolist() == [0.0, -2e4]
    assert out.entropy.abs().max() == 0
    assert hidden.grad.isfinite().all()


@pytest.mark.parametrize(("impl", "native"), WAYS)
def test_a_nan_in_a_row_spoils_that_row_only(impl, native, device_for, monkeypatch):
    monkeypatch.setattr(env, "NATIVE", native)
    hidden, weight, targets = Case(4, 7, 50).inputs(device_for(impl))
    hidden[2, 3] = float("nan")
    out = linear_log_prob(hidden, weight, targets, impl=impl)
    assert out.log_prob.isnan().tolist() == [False, False, True, False]
    assert out.entropy.isnan().tolist() == [False, False, True, False]
    assert not out.is_top1[2]


def test_without_gradients_nothing_is_saved():
    hidden, weight, targets = Case(4, 7, 50).inputs("cpu")
    hidden.requires_grad_()
    with torch.no_grad():
        out = linear_log_prob(hidden, weight, targets)
    assert not out.log_prob.requires_grad


def test_a_temperature_is_a_scale_and_a_softcap():
    hidden, weight, targets = Case(5, 7, 11).inputs("cpu")
    z = 3 * torch.tanh(hidden @ weight.T / 3) / 0.7
    got = linear_log_prob(hidden, weight, targets, scale=1 / 0.7, softcap=3 / 0.7)
    torch.testing.assert_close(got.log_prob, z.log_softmax(-1).gather(1, targets[:, None])[:, 0])


@pytest.mark.parametrize(
    "needs", [(True, False, False), (False, True, False), (False, False, True)]
)
@pytest.mark.parametrize("impl", [i.name for i in IMPLS])
def test_gives_only_the_gradients_that_are_needed(impl, needs, device_for):
    case = Case(5, 7, 11, has_bias=True)
    hidden, weight, targets = case.inputs(device_for(impl))
    bias = case.settings(device_for(impl))["bias"]
    tensors = (hidden, weight, bias)
    for tensor, needed in zip(tensors, needs, strict=True):
        tensor.requires_grad_(needed)
    linear_log_prob(hidden, weight, targets, bias=bias, impl=impl).log_prob.sum().backward()
    assert tuple(t.grad is not None for t in tensors) == needs


def test_keeps_one_gradient_of_the_hidden_rows_when_the_head_is_frozen():
    hidden, weight, targets = Case(64, 16, 515).inputs("cpu")
    hidden.requires_grad_()
    assert saved_bytes(lambda: linear_log_prob(hidden, weight, targets)) == 4 * 64 * 16


def test_keeps_only_its_inputs_when_the_head_is_trained():
    hidden, weight, targets = Case(64, 16, 515).inputs("cpu")
    weight.requires_grad_()
    saved = saved_bytes(lambda: linear_log_prob(hidden, weight, targets))
    assert saved == hidden.nbytes + weight.nbytes + targets.nbytes


def test_rejects_a_target_outside_the_vocabulary():
    with pytest.raises(ShapeError, match=r"row 1 has target 5, but the head has 5 tokens, 0 to 4"):
        linear_log_prob(torch.zeros(2, 3), torch.zeros(5, 3), torch.tensor([0, 5]))


@pytest.mark.parametrize("impl", ["triton"])
def test_on_a_gpu_a_target_outside_the_vocabulary_scores_nan(impl, device_for):
    device = device_for(impl)
    hidden, weight, targets = Case(3, 7, 50).inputs(device)
    targets[1] = 50
    from strop.ops.linear_log_prob.triton import linear_log_prob as on_a_gpu

    out = on_a_gpu(hidden, weight, targets, None, 1.0, None)
    assert out.log_prob.isnan().tolist() == [False, True, False]


def test_rejects_shapes_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"got hidden \[2, 3\], weight \[5, 4\]"):
        linear_log_prob(torch.zeros(2, 3), torch.zeros(5, 4), torch.tensor([0, 1]))


def test_an_unknown_implementation_is_named():
    with pytest.raises(UnsupportedError, match="has 'triton', 'cpu', 'reference'"):
        linear_log_prob(torch.zeros(1, 3), torch.zeros(5, 3), torch.tensor([0]), impl="gpu")


@pytest.mark.parametrize(
    ("V", "D"), [(49_152, 576), (151_936, 896), (262_144, 640), (128_256, 4096)]
)
def test_a_tile_has_enough_rows_and_takes_a_part_of_what_its_head_takes(V, D):
    rows = tile_rows(V, D, 64_000_000)
    assert rows >= 160
    assert 4 * rows * V <= max(64_000_000, 4 * V * D / 4)
