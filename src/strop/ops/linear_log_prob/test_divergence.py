import pytest
import torch

from strop.core import env
from strop.core.errors import ShapeError
from strop.ops.linear_log_prob import divergence_tiled
from strop.ops.linear_log_prob.divergence import Logits, linear_divergence, top_k_divergence
from strop.testing import (
    check_against_reference,
    check_documented_shapes,
    peak_bytes,
    saved_bytes,
)

BETAS = [0.0, 0.3, 1.0]
BOUNDED = {"logits": Logits(scale=0.5, softcap=2.0), "teacher_logits": Logits(softcap=3.0)}
SHAPES = [
    (1, 1, 2, 1, torch.float32),
    (37, 29, 123, 17, torch.float32),
    (37, 29, 123, 17, torch.float64),
    (64, 64, 515, 32, torch.bfloat16),
    (0, 8, 11, 8, torch.float32),
]


def heads(M, D, V, F, dtype, head_dtype=None):
    rng = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=rng)

    of = (normal(M, D), 2 * normal(V, D) / D**0.5, normal(M, F), 2 * normal(V, F) / F**0.5)
    kinds = (dtype, head_dtype or dtype) * 2
    return [t.to(kind) for t, kind in zip(of, kinds, strict=True)]


def likeliest(teacher_hidden, teacher_weight, K):
    log_probs = (teacher_hidden @ teacher_weight.T).log_softmax(-1)
    top, tokens = log_probs.topk(K)
    others = log_probs.scatter(1, tokens, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat((top, others), 1), tokens


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("settings", [{}, BOUNDED], ids=["plain", "bounded"])
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_divergences_and_their_gradient_are_those_of_whole_logits(
    shape, native, settings, beta, monkeypatch
):
    monkeypatch.setattr(env, "NATIVE", native)
    monkeypatch.setattr(divergence_tiled, "TILE_BYTES", 21 * 515 * 4)
    hidden, weight, *teacher = heads(*shape)

    def frozen(hidden, *, impl):
        wider = [t.to(hidden.dtype) if hidden.dtype == torch.float64 else t for t in teacher]
        head = weight.to(hidden.dtype) if hidden.dtype == torch.float64 else weight
        return linear_divergence(hidden, head, *wider, beta=beta, impl=impl, **settings)

    check_against_reference(frozen, "tiled", hidden)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_divergences_from_stored_tokens_are_those_of_whole_logits(dtype, beta, monkeypatch):
    monkeypatch.setattr(divergence_tiled, "TILE_BYTES", 21 * 123 * 4)
    hidden, weight, *teacher = heads(37, 29, 123, 17, dtype)
    log_probs, tokens = likeliest(*teacher, 9)

    def frozen(hidden, *, impl):
        head, stored = weight.to(hidden.dtype), log_probs.to(hidden.dtype)
        return top_k_divergence(hidden, head, stored, tokens, beta=beta, impl=impl)

    check_against_reference(frozen, "tiled", hidden)
    whole = linear_divergence(hidden, weight, *teacher, beta=beta)
    assert (frozen(hidden, impl="tiled") <= whole + 1e-6).all()


def test_all_but_one_token_stored_is_the_whole_distribution():
    hidden, weight, *teacher = heads(5, 8, 20, 6, torch.float64)
    stored = top_k_divergence(hidden, weight, *likeliest(*teacher, 19), beta=0.3)
    torch.testing.assert_close(stored, linear_divergence(hidden, weight, *teacher, beta=0.3))


@pytest.mark.parametrize("head_dtype", [torch.float32, torch.bfloat16])
def test_a_head_in_another_dtype_is_widened_a_slice_at_a_time(head_dtype, monkeypatch):
    monkeypatch.setattr(divergence_tiled, "SLICE_BYTES", 100 * 16 * 4)
    hidden, weight, *teacher = heads(16, 16, 515, 16, torch.float32, head_dtype)
    wide = [t.float() for t in (weight, *teacher)]
    torch.testing.assert_close(
        linear_divergence(hidden, weight, *teacher, beta=0.5),
        linear_divergence(hidden, *wide, beta=0.5),
    )


def test_docstrings_have_the_shapes():
    given = heads(3, 4, 5, 6, torch.float32)
    names = ("hidden", "weight", "teacher_hidden", "teacher_weight")
    out = linear_divergence(*given)
    check_documented_shapes(linear_divergence, dict(zip(names, given, strict=True)), {})
    assert out.shape == (3,)


def test_the_logits_of_neither_model_exist_whole(monkeypatch):
    M, V = 600, 2_000
    hidden, weight, *teacher = heads(M, 16, V, 16, torch.float32)
    hidden.requires_grad_()

    def call():
        return linear_divergence(hidden, weight, *teacher, beta=0.5)

    assert saved_bytes(call) == hidden.nbytes
    monkeypatch.setattr(divergence_tiled, "TILE_BYTES", 80_000)
    assert peak_bytes(call) < M * V * 4 / 4


def test_tensors_that_do_not_fit_are_named():
    hidden, weight, *teacher = heads(3, 4, 5, 6, torch.float32)
    with pytest.raises(ShapeError, match=r"got \[3, 4\], \[4, 4\]"):
        linear_divergence(hidden, weight[:4], *teacher)
    with pytest.raises(ShapeError, match="with K below V"):
        top_k_divergence(hidden, weight, torch.zeros(3, 6), torch.zeros(3, 5, dtype=torch.int64))
