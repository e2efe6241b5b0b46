import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from strop.core import env, work
from strop.core.errors import ShapeError, UnsupportedError
from strop.core.simulated.allocations import Allocations
from strop.ops.segment_attention import IMPLS, cpu, eager, segment_attention, tiles
from strop.ops.segment_attention.cases import COMPILED_IN_16_BITS, FLASH_IN_16_BITS, TESTED, Case
from strop.ops.segment_attention.reference import visible
from strop.ops.segment_attention.settings import Settings
from strop.testing import check_against_reference, check_documented_shapes, saved_bytes

TREE = next(case for case in TESTED if case.parents)
FLASH, TILED = TREE, next(case for case in TESTED if case.softcap)
OTHERS = [i.name for i in IMPLS if i.name != "reference"]


@pytest.mark.parametrize("case", TESTED, ids=str)
@pytest.mark.parametrize("native", [True, False], ids=["compiled", "plain"])
@pytest.mark.parametrize("impl", OTHERS)
def test_agrees_with_reference(impl, case, native, device_for, monkeypatch):
    monkeypatch.setattr(env, "NATIVE", native)
    device = device_for(impl)
    check_against_reference(
        segment_attention, impl, *case.inputs(device), settings=case.settings(device)
    )


@pytest.mark.parametrize("case", COMPILED_IN_16_BITS, ids=str)
def test_in_16_bits_compiled_code_errs_no_more_than_eager_pytorch(case):
    if not cpu.can_run(case.inputs("cpu")[0]):
        pytest.skip("there is no compiler")
    settings = case.settings("cpu")
    check_against_reference(segment_attention, "cpu", *case.inputs("cpu"), settings=settings)


@pytest.mark.parametrize("case", FLASH_IN_16_BITS, ids=str)
def test_in_16_bits_errs_no_more_than_flash_attention_with_a_mask(case):
    seen = visible(case.segments(), None, torch.device("cpu"))

    def attend(q, k, v, *, impl):
        if impl == "cpu" or q.dtype == torch.float64:
            return segment_attention(q, k, v, case.segments(), impl=impl)
        mask = torch.zeros(seen.shape, dtype=q.dtype).masked_fill(~seen, -torch.inf)
        heads_first = [t.transpose(0, 1)[None] for t in (q, k, v)]
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            out = scaled_dot_product_attention(*heads_first, attn_mask=mask)
        return out[0].transpose(0, 1)

    check_against_reference(attend, "cpu", *case.inputs("cpu"))


def test_docstring_tells_the_shapes():
    q, k, v = TREE.inputs("cpu")
    out = segment_attention(q, k, v, TREE.segments())
    check_documented_shapes(segment_attention, {"q": q, "k": k, "v": v}, out)


def test_a_tree_of_runs_gives_what_each_path_gives_by_itself():
    case = Case((4, 3, 2, 5), (None, 0, 1, 0), dtype=torch.float64)
    q, k, v = case.inputs("cpu")
    out = segment_attention(q, k, v, case.segments())
    for path in ([0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 3, 9, 10, 11, 12, 13]):
        rows = [t[path].transpose(0, 1) for t in (q, k, v)]
        alone = scaled_dot_product_attention(*rows, is_causal=True, enable_gqa=True)
        torch.testing.assert_close(out[path], alone.transpose(0, 1))


def test_a_window_counts_along_the_path_and_not_along_the_rows():
    case = Case((2, 2, 2), (None, 0, 0))
    mask = visible(case.segments(), 3, torch.device("cpu"))
    seen = [[0], [0, 1], [0, 1, 2], [1, 2, 3], [0, 1, 4], [1, 4, 5]]
    assert [row.nonzero()[:, 0].tolist() for row in mask] == seen


@pytest.mark.parametrize("case", [FLASH, TILED], ids=["flash", "tiles"])
@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("impl", [i.name for i in IMPLS])
def test_gives_only_the_gradients_that_are_needed(impl, name, case, device_for):
    device = device_for(impl)
    named = dict(zip("qkv", case.inputs(device), strict=True))
    named[name].requires_grad_()
    segment_attention(**named, **case.settings(device), impl=impl).sum().backward()
    assert [name for name, t in named.items() if t.grad is not None] == [name]


@pytest.mark.parametrize("case", [FLASH, TILED], ids=["flash", "tiles"])
@pytest.mark.parametrize("upstream", ["expanded", "features first"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_from_above_may_have_any_strides(case, upstream, dtype):
    def gradients(impl):
        leaves = [t.to(dtype).requires_grad_() for t in case.inputs("cpu")]
        out = segment_attention(*leaves, **case.settings("cpu"), impl=impl)
        N, H, C = out.shape
        rng = torch.Generator().manual_seed(3)
        dout = torch.randn(C, H, N, generator=rng, dtype=dtype).permute(2, 1, 0)
        if upstream == "expanded":
            dout = dout[:1, :1, :1].expand(N, H, C)
        return torch.autograd.grad(out, leaves, dout)

    for ours, expected in zip(gradients("cpu"), gradients("reference"), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_keeps_q_k_v_the_output_and_one_number_per_query_and_head(dtype, softcap):
    case = Case((40, 20, 4), (None, 0, 0), H=6, K=2, C=8, dtype=dtype, buffer=True)
    q, k, v = case.inputs("cpu")
    q.requires_grad_()
    saved = saved_bytes(lambda: segment_attention(q, k, v, case.segments(), softcap=softcap))
    N, wide = 64, torch.promote_types(dtype, torch.float32)
    assert saved == N * (2 * 6 + 2 * 2) * 8 * dtype.itemsize + N * 6 * wide.itemsize


@pytest.mark.parametrize("case", [FLASH, TILED], ids=["flash", "tiles"])
def test_gradients_are_written_into_views_of_a_buffer_and_nowhere_else(case):
    q, k, v = case.inputs("cpu")
    segments, scale = case.segments(), 0.25
    call = segments, scale, case.window, case.softcap
    out, lse = eager.forward(q, k, v, *call)
    dout = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
    expected = eager.backward(dout, q, k, v, out, lse, *call)
    beside = 3
    buffer = torch.full((len(q), (4 + 2 + 2) + beside, 16), 7.0)
    into = buffer.split([4, 2, 2, beside], 1)[:3]
    assert eager.backward(dout, q, k, v, out, lse, *call, into=into) == into
    for written, reference in zip(into, expected, strict=True):
        assert torch.equal(written, reference)
    assert (buffer[:, 8:] == 7).all()


@pytest.mark.parametrize("case", [FLASH, TILED], ids=["flash", "tiles"])
def test_the_saved_number_is_the_log_of_the_sum_of_the_exponentials(case):
    q, k, v = (t.double() for t in case.inputs("cpu"))
    _, lse = eager.forward(q, k, v, case.segments(), 0.25, case.window, case.softcap)
    scores = torch.einsum("nhc,mhc->hnm", q, k.repeat_interleave(2, 1)) * 0.25
    if case.softcap is not None:
        scores = case.softcap * torch.tanh(scores / case.softcap)
    seen = visible(case.segments(), case.window, q.device)
    torch.testing.assert_close(lse, scores.masked_fill(~seen, -torch.inf).logsumexp(-1))


@pytest.mark.parametrize("native", [True, False], ids=["compiled", "plain"])
def test_the_size_of_tiles_changes_nothing(native, monkeypatch):
    monkeypatch.setattr(env, "NATIVE", native)
    monkeypatch.setattr(tiles, "TILE", 7)
    for case in (FLASH, TILED, next(c for c in TESTED if c.window == 6)):
        check_against_reference(
            segment_attention, "cpu", *case.inputs("cpu"), settings=case.settings("cpu")
        )


@pytest.mark.parametrize("native", [True, False], ids=["compiled", "plain"])
@pytest.mark.parametrize("softcap", [None, 1.0], ids=["flash", "tiles"])
def test_huge_scores_stay_finite(softcap, native, monkeypatch):
    monkeypatch.setattr(env, "NATIVE", native)
    case = Case((6, 3), (None, 0), C=4)
    q, k, v = (1e4 * t for t in case.inputs("cpu"))
    q.requires_grad_()
    out = segment_attention(q, k, v, case.segments(), softcap=softcap)
    out.sum().backward()
    assert out.isfinite().all()
    assert q.grad.isfinite().all()


@pytest.mark.parametrize(
    ("lengths", "parents", "window"),
    [
        ((900,), None, None),
        ((900,), None, 100),
        ((130, 700, 64), None, None),
        ((300, 200, 333, 70), (None, 0, 1, 0), None),
        ((300, 200, 333, 70), (None, 0, 1, 0), 150),
    ],
)
def test_tiles_skipped_without_data_need_no_more_memory_and_their_arithmetic_is_counted(
    lengths, parents, window
):
    case = Case(lengths, parents, window=window, softcap=2.0)
    settings = Settings(case.segments(), 0.25, window, 2.0)

    def measure(q, k, v):
        """Return the peak of both passes, and their arithmetic; count the products that ran."""
        skipped_flops, seen, counter = [], Allocations(), FlopCounterMode(display=False)
        gradients = [torch.empty_like(t) for t in (q, k, v)]
        with work.counted(skipped_flops.append), counter, seen:
            out, lse = tiles.forward(q, k, v, settings)
            tiles.backward(out, q, k, v, out, lse, settings, gradients)
        return seen.peak, counter.get_total_flops() + sum(skipped_flops), len(skipped_flops)

    peak, flops, skipped = measure(*case.inputs("cpu"))
    assert skipped == 0
    with FakeTensorMode():
        *measured, skipped = measure(*case.inputs("cpu"))
    assert measured == [peak, flops]
    assert skipped > 0


@pytest.mark.parametrize(
    ("q", "k", "v", "message"),
    [
        ((5, 4, 8), (5, 3, 8), (5, 3, 8), r"q \[5, 4, 8\], k \[5, 3, 8\], v \[5, 3, 8\] and 5 tok"),
        ((5, 4, 8), (5, 2, 8), (5, 2, 6), r"v \[5, 2, 6\]"),
        ((5, 4, 8), (5, 2, 6), (5, 2, 6), r"k \[5, 2, 6\]"),
        ((5, 4, 8), (5, 0, 8), (5, 0, 8), r"k \[5, 0, 8\]"),
        ((5, 32), (5, 16), (5, 16), r"q \[5, 32\]"),
        ((6, 4, 8), (6, 2, 8), (6, 2, 8), r"q \[6, 4, 8\].* and 5 tokens"),
    ],
    ids=["heads do not divide", "v differs", "k is narrow", "no key heads", "flat", "N differs"],
)
def test_tensors_that_do_not_fit_are_named(q, k, v, message):
    with pytest.raises(ShapeError, match=message):
        segment_attention(*map(torch.zeros, (q, k, v)), Case((3, 2)).segments())


def test_an_unknown_implementation_is_named():
    with pytest.raises(UnsupportedError, match="impl='gpu' is not known"):
        segment_attention(*TREE.inputs("cpu"), TREE.segments(), impl="gpu")


def test_another_device_is_named():
    meta = [t.to("meta") for t in TREE.inputs("cpu")]
    with pytest.raises(UnsupportedError, match="it needs CPU tensors, q is on meta"):
        segment_attention(*meta, TREE.segments(), impl="cpu")
