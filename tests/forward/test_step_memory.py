"""Memory of a whole training step, by mode of activations, beside the formulas of the design."""

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from trl.trainer.utils import add_fused_lm_head

from strop.forward.base_model import base_model
from strop.forward.compact import install
from strop.testing import peak_bytes, saved_bytes
from tests import tiny
from tests.forward.plain import OUTPUTS

D, F, H, K, C, V, R = 96, 256, 6, 2, 16, 61, 4
LENGTHS = (150, 99, 120)
N = sum(LENGTHS) - len(LENGTHS)
"""Tokens that predict one."""
SAVED = 2 * D + (H + 2 * K) * C + H * C + H + 2 + 2 * F
"""Numbers per token that a block keeps under "keep": the sum of the docstrings of its halves."""


def model_of(blocks):
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=D, intermediate_size=F, num_hidden_layers=blocks,
        num_attention_heads=H, num_key_value_heads=K, max_position_embeddings=512,
    )  # fmt: skip
    torch.manual_seed(0)
    base = transformers.AutoModelForCausalLM.from_config(config)
    lora = LoraConfig(r=R, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(base, lora)


def measured(blocks, activations, *, lengths=LENGTHS, **settings):
    """Return the bytes saved after forward, and the peak of forward and backward."""
    model, batch = model_of(blocks), tiny.batch(lengths=lengths, prompt=1, vocab=V)
    add_fused_lm_head(base_model(model), outputs=OUTPUTS)
    _, undo = install(model, activations=activations, **settings)

    def forward():
        return model(**batch, fused_lm_head=True, use_cache=False).loss

    saved = saved_bytes(forward)
    peak = peak_bytes(lambda: forward().backward())
    undo()
    return saved, peak


def adapters(blocks):
    """Return the bytes of the trained tensors."""
    return sum(p.nbytes for p in model_of(blocks).parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("activations", "saved", "peak"),
    [
        ("keep", SAVED * N * 4, SAVED * N * 4),
        ("checkpoint", D * N * 4, D * N * 4),
        ("offload", 0, adapters(1)),  # only the gradients add up
    ],
)
def test_one_more_block_costs_what_it_saves(activations, saved, peak):
    (a, lower), (b, higher) = (measured(blocks, activations) for blocks in (3, 5))
    assert b - a == 2 * saved
    assert higher - lower == 2 * peak


def test_the_last_block_is_saved_in_every_mode_and_the_rest_is_the_same():
    keep, checkpoint, offload = (measured(3, p)[0] for p in ("keep", "checkpoint", "offload"))
    assert keep - checkpoint == 2 * (SAVED - D) * N * 4
    assert checkpoint - offload == 2 * D * N * 4


@pytest.mark.parametrize("activations", ["keep", "checkpoint"])
@pytest.mark.parametrize("linear_loss", [True, False])
def test_micro_batches_need_what_the_largest_needs_and_the_gradients_collected(
    linear_loss, activations
):
    _, one = measured(3, activations, lengths=LENGTHS[:1])
    _, peak = measured(3, activations, micro_batch_tokens=1, linear_loss=linear_loss)
    slots = len(LENGTHS) * (max(LENGTHS) + 2)
    results = slots * (3 * 4 + 3 * 8)  # of all rows: outputs, and integers about them
    assert peak <= one + 2 * adapters(3) + 2 * results
