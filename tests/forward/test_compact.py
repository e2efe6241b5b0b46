import itertools

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from strop.core.errors import DataError
from strop.evaluation.scoring import score
from strop.forward.base_model import base_model
from strop.forward.compact import install
from tests import tiny
from tests.forward.plain import OUTPUTS, compare, plain, step


def combined(*choices, quick):
    """Return every combination of the choices, all slow but those of `quick`."""
    return [
        pytest.param(*one, marks=() if one in quick else pytest.mark.slow)
        for one in itertools.product(*choices)
    ]


@pytest.mark.parametrize(
    ("family", "side"),
    combined(
        [*tiny.FAMILIES, *tiny.UNKNOWN],
        ["right", "left"],
        quick=[("llama", "left"), ("gemma3", "left"), ("olmo2", "right")],
    ),
)
def test_equals_the_plain_path(family, side):
    compare(tiny.model(family), tiny.batch(side=side))


@pytest.mark.parametrize(
    ("family", "activations"),
    combined(
        tiny.FAMILIES,
        ["keep", "checkpoint", "offload"],
        quick=[
            *((family, "keep") for family in tiny.FAMILIES),
            ("llama", "checkpoint"),
            ("gemma2", "offload"),
            ("qwen3.5", "offload"),
            ("lfm2", "checkpoint"),
        ],
    ),
)
def test_fused_halves_equal_the_plain_path(family, activations):
    compare(tiny.model(family), tiny.batch(), activations=activations, fuse="always")


@pytest.mark.parametrize(
    ("family", "activations", "fuse"),
    combined(
        ["llama", "gemma2", *tiny.HYBRID],
        ["keep", "checkpoint"],
        ["always", "never"],
        quick=[("llama", "keep", "always"), ("lfm2", "checkpoint", "always")],
    ),
)
def test_shared_prefixes_and_pieces_change_nothing(family, activations, fuse):
    batch = tiny.batch(shared=40, lengths=(60, 44, 50, 60, 12, 41))
    how = {"activations": activations, "fuse": fuse}
    compare(tiny.model(family), batch, **how)
    compare(tiny.model(family), batch, **how, micro_batch_tokens=70)
    compare(tiny.model(family), batch, **how, micro_batch_tokens=70, linear_loss=True)


def test_pieces_are_exact_for_any_slope_of_the_log_probabilities():
    batch = tiny.batch()
    slope = torch.rand(batch["labels"][:, 1:].shape, dtype=torch.float64)
    for linear in (False, True):
        compare(tiny.model("llama"), batch, slope=slope, micro_batch_tokens=50, linear_loss=linear)


@pytest.mark.parametrize(
    ("family", "side"),
    combined(
        ["llama", "qwen3", "gemma3"],
        ["right", "left"],
        quick=[("llama", "right"), ("gemma3", "left")],
    ),
)
def test_equals_trl_on_a_padded_batch_in_float32(family, side):
    model = tiny.model(family, dtype=torch.float32, attention="sdpa")
    batch = tiny.batch(side=side)
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    expected, gradients = step(model, batch)
    _, undo = install(model)
    output, ours = step(model, batch)
    undo()
    assert abs(output.log_probs.sum() / expected.log_probs.sum() - 1) <= 1e-5
    for name, gradient in ours.items():
        assert (gradient - gradients[name]).norm() <= 1e-4 * gradients[name].norm(), name


@pytest.mark.parametrize("lengths", [(9,), (1, 20), (2,)])
def test_small_batches(lengths):
    compare(tiny.model("llama"), tiny.batch(lengths=lengths))


def test_a_batch_without_labels_gives_a_differentiable_zero():
    model = tiny.model("llama")
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    batch = tiny.batch()
    batch["labels"][:] = -100
    _, undo = install(model)
    output = model(**batch, fused_lm_head=True)
    output.loss.backward()
    undo()
    assert output.loss == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("family", ["llama", *tiny.HYBRID])
def test_packed_documents_do_not_see_each_other(family):
    model = tiny.model(family)
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    rows = tiny.batch(lengths=(20, 31, 9), prompt=1)
    expected = plain(model, rows)
    lengths = rows["attention_mask"].sum(1).tolist()
    packed = {
        name: torch.cat([rows[name][b, :n] for b, n in enumerate(lengths)])[None]
        for name in ("input_ids", "labels")
    }
    packed["position_ids"] = torch.cat([torch.arange(n) for n in lengths])[None]
    _, undo = install(model)
    output, gradients = step(model, packed)
    undo()
    torch.testing.assert_close(output.log_probs.sum(), expected[0].log_probs.sum())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[1][name])


def test_undo_gives_back_forward_attention_and_outputs():
    model = tiny.model("llama")
    base = base_model(model)
    batch = {k: v for k, v in tiny.batch().items() if k != "labels"}
    before = model(**batch).logits
    state = {k: v.clone() for k, v in model.state_dict().items()}
    modules = [type(m) for m in model.modules()]
    _, undo = install(model)
    undo()
    assert "forward" not in vars(base)
    assert torch.equal(model(**batch).logits, before)
    assert [type(m) for m in model.modules()] == modules
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_a_label_beyond_the_vocabulary_is_named():
    model = tiny.model("llama")
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    batch = tiny.batch()
    batch["labels"][2, 20] = 999
    _, undo = install(model)
    with pytest.raises(DataError, match="row 2 has the label 999 at token 20"):
        model(**batch, fused_lm_head=True)
    undo()


def test_scores_of_examples_equal_those_of_the_model():
    model = tiny.model("llama", lora=False)
    batch = tiny.batch(shared=35, lengths=(60, 44, 50))
    lengths = batch["attention_mask"].sum(1).tolist()
    examples = [
        (batch["input_ids"][b, :n].tolist(), batch["labels"][b, :n].tolist())
        for b, n in enumerate(lengths)
    ]
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    for b, log_probs in enumerate(score(model, examples)):
        targets = batch["labels"][b, 1:]
        at = targets != -100
        exact = logits[b, :-1].log_softmax(-1)[at].gather(1, targets[at][:, None])[:, 0]
        torch.testing.assert_close(log_probs, exact)
