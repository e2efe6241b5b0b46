"""Families with recurrent mixers, which run as transformers wrote them between strop's halves."""

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from strop.evaluation.scoring import score
from strop.forward.base_model import base_model
from strop.forward.compact import install
from strop.forward.compaction import compact_batch
from strop.forward.decoder import blocks
from strop.forward.decoder.mixers import MixerHalf
from strop.ops.lora_linear.parts import Workspace
from tests import tiny
from tests.forward.plain import OUTPUTS, compare, compare_with_eager, step

MODES = ("keep", "checkpoint", "offload")


def float32(family, **peft):
    """Build a model as transformers wrote it, in float32."""
    return tiny.model(family, dtype=torch.float32, attention="eager", **peft)


@pytest.mark.parametrize("activations", MODES)
@pytest.mark.parametrize("family", tiny.HYBRID)
def test_outputs_and_gradients_in_float32_err_no_more_than_eager(family, activations):
    model = float32(family)
    compact = compare_with_eager(
        model,
        tiny.batch(shared=20),
        widen=tiny.widen,
        activations=activations,
        micro_batch_tokens=90,
    )
    assert not compact.backbone.reported


@pytest.mark.parametrize("peft", [{"use_dora": True}, {"target_modules": ["q_proj", "k_proj"]}])
@pytest.mark.parametrize("family", tiny.HYBRID)
def test_adapters_of_other_kinds_and_on_few_layers_are_exact(family, peft):
    compare(tiny.model(family, **peft), tiny.batch(), fuse="always", activations="checkpoint")


@pytest.mark.parametrize("family", tiny.HYBRID)
def test_rows_of_one_and_two_tokens_are_exact(family):
    for lengths in ((2,), (1, 20), (2, 3, 2)):
        compare_with_eager(float32(family), tiny.batch(lengths=lengths), widen=tiny.widen)


@pytest.mark.parametrize("family", tiny.HYBRID)
def test_every_block_is_fused_and_no_proof_is_needed(family):
    decoder = base_model(float32(family)).base_model
    assert blocks.all_known(decoder)
    assert [blocks.obstacle(block) for block in decoder.layers] == [None] * len(decoder.layers)


@pytest.mark.parametrize("family", tiny.HYBRID)
def test_what_is_computed_again_draws_the_same_dropout(family):
    model = tiny.model(family, lora_dropout=0.4).train()
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    _, undo = install(model, activations="checkpoint", fuse="always")
    batch, trained = tiny.batch(lengths=(9, 14)), [p for p in model.parameters() if p.requires_grad]

    def log_prob():
        torch.manual_seed(5)
        return model(**batch, fused_lm_head=True).log_probs.sum()

    gradients = torch.autograd.grad(log_prob(), trained)
    directions, width = [torch.randn_like(p) for p in trained], 1e-5
    values = []
    for shift in (width, -2 * width):
        with torch.no_grad():
            torch._foreach_add_(trained, directions, alpha=shift)
        values.append(log_prob().detach())
    undo()
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    torch.testing.assert_close((values[0] - values[1]) / (2 * width), slope, rtol=1e-5, atol=0)


@pytest.mark.parametrize("family", tiny.HYBRID)
def test_an_autocast_counts_in_what_is_computed_again(family):
    model, batch = float32(family), compact_batch(**tiny.batch())[0]
    decoder = base_model(model).base_model
    x = torch.randn(batch.segments.size, model.config.hidden_size)
    angles = decoder.rotary_emb(x[None], batch.positions[None])
    for block in decoder.layers[:2]:
        with torch.autocast("cpu", torch.bfloat16):
            half = blocks.read(block, batch, angles, Workspace(), None).attention
            if isinstance(half, MixerHalf):
                assert torch.equal(half.run(x, None)[0], half(x))
        if isinstance(half, MixerHalf):
            assert torch.equal(half.run(x, None)[0], half.run(x, None)[0])


@pytest.mark.parametrize("activations", ["keep", "offload"])
@pytest.mark.parametrize("family", tiny.HYBRID)
def test_scores_of_rows_do_not_depend_on_their_neighbours(family, activations):
    model = float32(family).eval()
    batch = tiny.batch(shared=20)
    examples = [
        (ids[mask != 0].tolist(), labels[mask != 0].tolist())
        for ids, mask, labels in zip(*batch.values(), strict=True)
    ]
    together, alone = score(model, examples), [score(model, [one])[0] for one in examples]
    torch.testing.assert_close(together, alone)


def test_a_changed_mlp_runs_as_it_was_written():
    model = tiny.model("lfm2")
    mlp = base_model(model).base_model.layers[0].feed_forward
    mlp.forward = type(mlp).forward.__get__(mlp)
    text = "Lfm2MLP is not as transformers wrote it"
    compare(model, tiny.batch(), fuse="always", reports=[text])


def test_evaluation_without_gradients_equals_training_in_every_mode():
    model, batch = tiny.model("qwen3.5"), tiny.batch()
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    for activations in MODES:
        _, undo = install(model, activations=activations, fuse="always")
        with_graph, _ = step(model, batch)
        for context in (torch.no_grad(), torch.inference_mode()):
            with context:
                without = model(**batch, fused_lm_head=True)
            torch.testing.assert_close(without.log_probs, with_graph.log_probs.detach())
        undo()
