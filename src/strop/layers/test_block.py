"""Bytes that each mode of activations keeps; none of them changes a result."""

import pytest
import torch

from strop.core.system.spill import Spill
from strop.layers import block as block_file
from strop.layers.block import Block, run_block, run_half, run_mlp
from strop.layers.cases import ADAPTERS, C, Case, D, F, H, K, N, R
from strop.testing import peak_bytes, saved_bytes

HALVES = {"attention": Case.attention, "mlp": Case.mlp}
DTYPES = [torch.float64, torch.float32, torch.bfloat16]
SHAPES = [
    Case(),
    Case("dora"),
    Case("weights", post_norm=True, head_norms=True),
    Case("dropout", post_norm=True),
    Case(head_norms=True, post_norm=True, window=4, softcap=2.0),
]


def with_dtype(case, dtype):
    return Case(case.adapter, case.post_norm, case.head_norms, case.window, case.softcap, dtype)


def wide(dtype):
    """Return the bytes of a number in float32 or wider."""
    return max(4, dtype.itemsize)


def saved_by(kind, case):
    """Return the bytes that the docstring of a half says it keeps."""
    size, one = case.dtype.itemsize, wide(case.dtype)
    if kind == "attention":
        per_token = size * (D + (H + 2 * K) * C + H * C) + one * (1 + H)
    else:
        per_token = size * (D + 2 * F) + one
    return N * (per_token + (size * D + one if case.post_norm else 0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SHAPES, ids=str)
@pytest.mark.parametrize("kind", HALVES)
def test_a_half_keeps_what_its_docstring_says(kind, case, dtype):
    case = with_dtype(case, dtype)
    half, x = HALVES[kind](case), case.x().requires_grad_()
    assert saved_bytes(lambda: run_half(half, x)) == saved_by(kind, case)


@pytest.mark.parametrize(("kind", "numbers"), [("attention", 3 * D + H * C), ("mlp", 2 * D + F)])
def test_dropout_keeps_one_byte_for_each_input_of_an_adapter(kind, numbers):
    masks = HALVES[kind](Case("dropout")).masks(Case().x())
    assert sum(m.nbytes for group in masks for m in group) == N * numbers


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_checkpointed_block_keeps_its_input_and_an_offloaded_one_nothing(dtype):
    case = with_dtype(Case(post_norm=True), dtype)
    x, halves = case.x().requires_grad_(), (case.attention(), case.mlp())
    assert saved_bytes(lambda: run_block(Block(*halves), x)) == N * D * dtype.itemsize
    spill = Spill()
    y = []
    assert saved_bytes(lambda: y.append(run_block(Block(*halves, spill), x)) or y[0]) == 0
    assert spill.put(x).offset == N * D * dtype.itemsize


def test_blocks_below_the_lowest_trained_one_keep_nothing():
    frozen, trained = Case("none"), Case(seed=1)
    x = frozen.x()

    def run():
        hidden = run_half(frozen.mlp(), run_half(frozen.attention(), x))
        hidden = run_block(Block(frozen.attention(), frozen.mlp()), hidden)
        return run_half(trained.mlp(), run_half(trained.attention(), hidden))

    assert saved_bytes(run) == saved_by("attention", trained) + saved_by("mlp", trained)


def test_a_frozen_block_puts_nothing_into_the_file():
    spill = Spill()
    case = Case("none")
    run_block(Block(case.attention(), case.mlp(), spill), case.x())
    assert spill.put(case.x()).offset == 0


@pytest.mark.parametrize("offload", [False, True], ids=["checkpoint", "offload"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("x_needs_grad", [True, False])
@pytest.mark.parametrize("case", [*map(Case, ADAPTERS[1:]), *SHAPES[2:]], ids=str)
def test_every_mode_of_activations_gives_the_same_bits(case, x_needs_grad, dtype, offload):
    case = with_dtype(case, dtype)
    blocks = [(case.attention(), case.mlp()) for _ in range(3)]
    x = case.x().requires_grad_(x_needs_grad)
    leaves = [x] * x_needs_grad + [t for block in blocks for half in block for t in half.trained]

    def result(spill, *, keep):
        torch.manual_seed(3)
        hidden = x
        for attention, mlp in blocks:
            if keep:
                hidden = run_half(mlp, run_half(attention, hidden))
            else:
                hidden = run_block(Block(attention, mlp, spill), hidden)
        return hidden, *torch.autograd.grad(hidden.square().sum(), leaves)

    spill = Spill() if offload else None
    for ours, expected in zip(result(spill, keep=False), result(None, keep=True), strict=True):
        assert torch.equal(ours, expected)
    assert spill is None or spill.put(x).offset == 0


def test_only_tensors_that_want_a_gradient_get_one_from_a_block():
    case = Case()
    block = Block(case.attention(), case.mlp())
    trained = block.attention.trained + block.mlp.trained
    for i, tensor in enumerate(trained):
        tensor.requires_grad_(i % 3 == 0)
    run_block(block, case.x()).sum().backward()
    assert [t.grad is not None for t in trained] == [t.requires_grad for t in trained]


@pytest.mark.parametrize("x_needs_grad", [True, False])
@pytest.mark.parametrize("chunk", [1, 8, N - 1])
@pytest.mark.parametrize("case", [*map(Case, ADAPTERS), Case("dropout", post_norm=True)], ids=str)
def test_chunks_of_tokens_change_nothing(case, chunk, x_needs_grad, monkeypatch):
    x = case.x().requires_grad_(x_needs_grad)

    def results():
        for whole_block in (True, False):
            torch.manual_seed(3)
            half = case.mlp()
            leaves = [x] * x_needs_grad + [*half.trained]
            y = run_block(Block(case.attention(), half), x) if whole_block else run_mlp(half, x)
            yield y
            if leaves:
                yield from torch.autograd.grad(y.square().sum(), leaves)

    whole = [*results()]
    monkeypatch.setattr(block_file, "CHUNK", chunk)
    for ours, expected in zip(results(), whole, strict=True):
        torch.testing.assert_close(ours, expected)


def test_only_tensors_that_want_a_gradient_get_one_in_chunks(monkeypatch):
    monkeypatch.setattr(block_file, "CHUNK", 5)
    half = Case().mlp()
    for i, tensor in enumerate(half.trained):
        tensor.requires_grad_(i % 3 == 0)
    run_mlp(half, Case().x()).sum().backward()
    assert [t.grad is not None for t in half.trained] == [t.requires_grad for t in half.trained]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("many", [1, 300])
def test_a_checkpointed_mlp_keeps_its_input_only(many, dtype):
    case = with_dtype(Case(post_norm=True), dtype)
    x = case.x().repeat(many, 1).requires_grad_()
    assert saved_bytes(lambda: run_mlp(case.mlp(), x)) == x.nbytes


@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_no_more_exists_at_once_than_a_chunk_needs(chunks):
    n, half = block_file.CHUNK, Case(dtype=torch.float32).mlp()
    x = torch.randn(chunks * n, D, requires_grad=True)
    dy, one = torch.randn(chunks * n, D), 4
    weights = one * sum(t.numel() for t in half.trained)
    half.workspace.take("weight", (2 * F * D,), x)
    y = []
    forward = peak_bytes(lambda: y.append(run_mlp(half, x)))
    assert forward <= one * (x.numel() * (chunks > 1) + n * (2 * D + 3 * F + 1))
    backward = peak_bytes(lambda: y[0].backward(dy))
    assert backward <= one * (x.numel() + n * (2 * D + 6 * F + 3 * R + 2)) + 2 * weights
