"""Training with bf16=True, as TRL's own default is: autocast forward, pieces again in backward."""

import pytest
import torch

import strop
from tests.trainers import runs


def trained(kind, folder, out, *, accelerated=None, bf16=True):
    """Train a float32 model; return loss and gradient norm of every step."""
    built = runs.trainer(kind, folder, out, bf16=bf16, max_steps=5)
    if accelerated is not None:
        strop.accelerate(built, **accelerated)
    lines = runs.train(built)
    if accelerated is not None:
        assert not runs.watch(built).reported
        assert not runs.watch(built).backbone.reported
    return torch.tensor([[line["loss"], line["grad_norm"]] for line in lines])


@pytest.mark.parametrize(
    "kind", ["sft", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("dpo", "kto"))]
)
@pytest.mark.parametrize(
    "how",
    [{}, {"activations": "checkpoint", "micro_batch_tokens": 60}],
    ids=["at once", "in pieces"],
)
def test_under_autocast_training_stays_nearer_to_float32_than_the_plain_trainer(
    how, kind, tiny_model, tmp_path
):
    truth = trained(kind, tiny_model, tmp_path, bf16=False)
    plain = trained(kind, tiny_model, tmp_path)
    ours = trained(kind, tiny_model, tmp_path, accelerated=how)
    error, allowed = ((found - truth).norm(dim=0) for found in (ours, plain))
    assert (error <= allowed).all()
    assert (allowed > 0).all()
