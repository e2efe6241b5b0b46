"""The plain path: transformers' own logits, each row by itself, and what strop is held to it."""

import torch
from trl.trainer.utils import FusedCausalLMOutput, add_fused_lm_head

from strop.forward.compact import base_model, install
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
    found = model(**batch, fused_lm_head=True, use_cache=False)
    return found, gradients_of(model, found.log_probs, slope)


def plain(model, batch, slope=None):
    """Return the same from transformers' own logits, each row by itself without padding."""
    log_probs, entropy, is_top1 = [], [], []
    for ids, mask, labels in zip(*(batch[k] for k in KEYS), strict=True):
        kept = mask.nonzero()[:, 0]
        logits = model(input_ids=ids[kept][None], use_cache=False).logits[0, :-1]
        places, scores = kept[1:] - 1, logits.log_softmax(-1)
        wanted = labels[kept[1:]]
        scored = wanted != -100
        own = scores.gather(-1, wanted.clamp(min=0)[:, None])[:, 0] * scored
        row = torch.zeros(len(ids) - 1, dtype=own.dtype)
        log_probs.append(row.index_add(0, places, own))
        entropy.append(row.index_add(0, places, -(scores.exp() * scores).sum(-1) * scored))
        is_top1.append(row.index_add(0, places, ((scores.argmax(-1) == wanted) & scored).to(row)))
    stacked = torch.stack(log_probs)
    found = FusedCausalLMOutput(
        log_probs=stacked,
        entropy=torch.stack(entropy),
        is_top1=torch.stack(is_top1),
        label_mask=batch["labels"][:, 1:] != -100,
    )
    return found, gradients_of(model, stacked, slope)


def assert_same(ours, theirs, tolerance):
    """Hold outputs and gradients to one another, relative to the largest of each tensor."""
    (a, grads), (b, wanted) = ours, theirs
    assert torch.equal(a.label_mask, b.label_mask)
    for name in ("log_probs", "entropy"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x - y).abs().max() <= tolerance * y.abs().max(), name
    assert torch.equal(a.is_top1.bool(), b.is_top1.bool())
    assert grads.keys() == wanted.keys()
    for name, gradient in grads.items():
        error = (gradient - wanted[name]).norm()
        allowed = tolerance * max(wanted[name].norm(), 1e-6)
        assert error <= allowed, f"{name}: {error:.1e}, allowed {allowed:.1e}"


def compare(model, batch, *, tolerance=1e-9, slope=None, said=(), **settings):
    """Hold strop's forward to the plain path; whatever it switches off must be in `said`, a text each."""
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    wanted = plain(model, batch, slope)
    compact, undo = install(model, **settings)
    ours = step(model, batch, slope)
    undo()
    assert compact.calls == 1
    reported = sorted(compact.reported | compact.backbone.reported)
    assert len(reported) == len(said), reported
    assert all(text in line for text, line in zip(sorted(said), reported, strict=True)), reported
    assert_same(ours, wanted, tolerance)


def compare_with_eager(model, batch, *, widen=lambda model: model, **settings):
    """Hold strop's outputs and gradients to eager's own error: truth is the plain path in float64.

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
