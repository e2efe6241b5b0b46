"""Rotary frequencies that follow the longest row of a batch are those of the batch."""

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from strop.forward.base_model import base_model
from strop.forward.compact import install
from tests import tiny
from tests.forward.plain import OUTPUTS, step


@pytest.mark.parametrize(
    ("kind", "lengths", "left_to_trl"),
    [
        ("dynamic", (90, 30), True),
        ("dynamic", (50, 30), False),
        ("longrope", (90, 80), False),
        ("longrope", (50, 30), False),
    ],
)
def test_frequencies_that_lengths_change_are_those_of_the_batch(kind, lengths, left_to_trl):
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0}
    if kind == "longrope":
        factors = {"short_factor": [1.0] * 6, "long_factor": [1.5] * 6}
        rope |= factors | {"original_max_position_embeddings": 64}
    sizes = {"max_position_embeddings": 64, "rope_parameters": rope}
    model = tiny.model("llama", dtype=torch.float32, sizes=sizes, attention="sdpa")
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    batch = tiny.batch(lengths=lengths)
    theirs, _ = step(model, batch)
    compact, undo = install(model)
    ours, _ = step(model, batch)
    undo()
    assert any("frequencies" in line for line in compact.reported) is left_to_trl
    scale = theirs.log_probs.abs().max()
    assert (ours.log_probs - theirs.log_probs).abs().max() <= 1e-5 * scale
