"""The packaged models in float32: strop's forward and gradients beside transformers' own."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AttentionInterface
from trl.trainer.utils import add_fused_lm_head

from strop.core.errors import MissingPackageError
from strop.forward.base_model import base_model
from strop.forward.compact import install
from strop.models import load
from strop.models.packaged import PACKAGED, find_parts
from tests import tiny
from tests.forward.plain import OUTPUTS, plain, step

pytestmark = pytest.mark.slow

TEXTS = (
    "The tower of a church in Tuscany leans because the ground under it is soft on one side.",
    "The tower of a church in Tuscany leans, and it was never straight.",
    "Nobody knows.",
)
WAYS = {
    "keep": {"activations": "keep"},
    "checkpoint, in pieces": {"activations": "checkpoint", "micro_batch_tokens": 24},
    "as transformers wrote it": {"fuse": "never"},
}


@pytest.fixture(params=PACKAGED)
def loaded(request):
    """Load a packaged model in float32 and give it an adapter that is not at zero."""
    try:
        find_parts(request.param, PACKAGED[request.param])
    except MissingPackageError as e:
        pytest.skip(str(e))
    model, tokenizer = load(request.param, bits=32)
    torch.manual_seed(0)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = get_peft_model(model, settings)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return tuned, tokenizer


def batch_of(tokenizer):
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    shape = (len(rows), max(map(len, rows)) + 2)
    ids, mask = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    labels = torch.full(shape, -100)
    for b, row in enumerate(rows):
        ids[b, : len(row)], mask[b, : len(row)] = torch.tensor(row), 1
        labels[b, 4 : len(row)] = torch.tensor(row[4:])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@torch.no_grad()
def errors(actual, truth):
    """Return the relative error of the log-probabilities and of every gradient: [rms], [worst]."""
    (output, gradients), (exact, exact_gradients) = actual, truth
    assert gradients.keys() == exact_gradients.keys()
    pairs = [(output.log_probs, exact.log_probs)]
    pairs += [(gradients[name], exact_gradients[name]) for name in exact_gradients]
    off = [(a.double() - b, b) for a, b in pairs]
    rms = [d.norm() / b.norm() for d, b in off]
    worst = [d.abs().max() / b.abs().max() for d, b in off]
    return torch.stack(rms), torch.stack(worst)


def test_a_packaged_model_errs_no_more_than_transformers_itself(loaded):
    model, tokenizer = loaded
    batch = batch_of(tokenizer)
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    theirs = plain(model, batch)
    steps = {}
    for name, how in WAYS.items():
        compact, undo = install(model, **how)
        steps[name] = step(model, batch)
        undo()
        assert not compact.reported | compact.backbone.reported
    AttentionInterface.register("exact", tiny.exact_attention)
    tiny.widen(model.double())
    model.get_base_model().set_attn_implementation("exact")
    truth = plain(model, batch)
    allowed = errors(theirs, truth)
    for name, ours in steps.items():
        assert torch.equal(ours[0].label_mask, truth[0].label_mask)
        for mine, eager, factor in zip(errors(ours, truth), allowed, (1.5, 2.0), strict=True):
            assert (mine <= factor * eager).all(), name
