"""Plain path: transformers' own logits, each row by itself, and comparisons of strop with it."""

import torch
from trl.trainer.utils import FusedCausalLMOutput, add_fused_lm_head

from strop.forward.base_model import base_model
from strop.forward.compact import install
from strop.testing import check_error

KEYS = ("input_ids", "attention_mask", "labels")
OUTPUTS = ("log_probs", "entropy", "is_top1")


def gradients_of(model, log_probs, slope=None):
    """Return the gradient of every trained tensor for a loss that is linear in the log-probabilities."""
    weights = torch.ones_like(log_probs) if slope is None else slope.to(log_probs)
    model.zero_grad()
    (-(log_probs * weights).sum() / 7).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def step(model, batch, slope=None):
    """Return the outputs of TRL's call and the gradient of every trained tensor."""
    output = model(**batch, fused_lm_head=True, use_cache=False)
    return output, gradients_of(model, output.log_probs, slope)


def plain(model, batch, slope=None):
    """Return the same from transformers' own logits, each row by itself without padding."""
    log_probs, entropy, is_top1 = [], [], []
    for ids, mask, labels in zip(*(batch[k] for k in KEYS), strict=True):
        at = mask.nonzero()[:, 0]
        logits = model(input_ids=ids[at][None], use_cache=False).logits[0, :-1]
        places, scores = at[1:] - 1, logits.log_softmax(-1)
        targets = labels[at[1:]]
        scored = targets != -100
        picked = scores.gather(-1, targets.clamp(min=0)[:, None])[:, 0] * scored
        row = torch.zeros(len(ids) - 1, dtype=picked.dtype)
        log_probs.append(row.index_add(0, places, picked))
        entropy.append(row.index_add(0, places, -(scores.exp() * scores).sum(-1) * scored))
        is_top1.append(row.index_add(0, places, ((scores.argmax(-1) == targets) & scored).to(row)))
    stacked = torch.stack(log_probs)
    output = FusedCausalLMOutput(
        log_probs=stacked,
        entropy=torch.stack(entropy),
        is_top1=torch.stack(is_top1),
        label_mask=batch["labels"][:, 1:] != -100,
    )
    return output, gradients_of(model, stacked, slope)


def assert_same(ours, theirs, tolerance):
    """Compare outputs and gradients, relative to the largest of each tensor."""
    (a, grads), (b, exact) = ours, theirs
    assert torch.equal(a.label_mask, b.label_mask)
    for name in ("log_probs", "entropy"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x - y).abs().max() <= tolerance * y.abs().max(), name
    assert torch.equal(a.is_top1.bool(), b.is_top1.bool())
    assert grads.keys() == exact.keys()
    for name, gradient in grads.items():
        error = (gradient - exact[name]).norm()
        allowed = tolerance * max(exact[name].norm(), 1e-6)
        assert error <= allowed, f"{name}: {error:.1e}, allowed {allowed:.1e}"


def compare(model, batch, *, tolerance=1e-9, slope=None, reports=(), **settings):
    """Compare strop's forward with the plain path; `reports` has a text of each part that is off."""
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    expected = plain(model, batch, slope)
    compact, undo = install(model, **settings)
    ours = step(model, batch, slope)
    undo()
    assert compact.calls == 1
    reported = sorted(compact.reported | compact.backbone.reported)
    assert len(reported) == len(reports), reported
    assert all(text in line for text, line in zip(sorted(reports), reported, strict=True)), reported
    assert_same(ours, expected, tolerance)


def compare_with_eager(model, batch, *, widen=lambda model: model, **settings):
    """Compare strop's errors with eager's, in outputs and gradients: truth is the plain path in float64.

    The model is float64 afterwards, and `widen` lets it compute all of itself so.
    """
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    eager, eager_gradients = plain(model, batch)
    compact, undo = install(model, **settings)
    ours, gradients = step(model, batch)
    undo()
    truth, true_gradients = plain(widen(model.double()), batch)
    check_error("log_probs", ours.log_probs.double(), truth.log_probs, eager.log_probs.double())
    assert gradients.keys() == true_gradients.keys()
    size = max(g.abs().max() for g in true_gradients.values())
    for name, gradient in gradients.items():
        theirs, true = eager_gradients[name].double(), true_gradients[name]
        error, allowed = (gradient - true).norm(), (theirs - true).norm()
        assert error <= 1.5 * allowed + 5e-7 * size * true.numel() ** 0.5, name
    return compact
