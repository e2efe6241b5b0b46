"""Signal and noise of a batch's gradient, beside plain gradients and beside known truth."""

import math

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from strop.forward.base_model import base_model
from strop.forward.compact import install
from strop.forward.gradient_noise import GradientNoise
from tests import tiny
from tests.forward.plain import KEYS, gradients_of, plain


def measured(model, batch, **settings):
    compact, undo = install(model, linear_loss=True, **settings)
    compact.noise = GradientNoise()
    output = model(**batch, fused_lm_head=True, use_cache=False)
    gradients_of(model, output.log_probs)
    undo()
    return compact.noise


@pytest.mark.parametrize("activations", ["keep", "checkpoint"])
def test_signal_and_noise_are_those_of_plain_gradients_row_by_row(activations):
    model, batch = tiny.model("llama"), tiny.batch(lengths=(20, 31, 12, 25))
    add_fused_lm_head(base_model(model), outputs=("log_probs",))
    rows, tokens = [], []
    for i in range(4):
        row = {key: batch[key][i : i + 1] for key in KEYS}
        _, gradients = plain(model, row)
        rows.append(torch.cat([7 * g.flatten() for g in gradients.values()]))
        tokens.append(int((row["labels"][:, 1:] != -100).sum()))
    count, squared = sum(tokens), sum(n * n for n in tokens)
    pieces = sum(row.square().sum() for row in rows)
    signal = (sum(rows).square().sum() - pieces) / (count**2 - squared)
    noise = (pieces - signal * squared) / count**2

    ours = measured(model, batch, activations=activations, micro_batch_tokens=1)
    assert ours.signal == pytest.approx(float(signal), rel=1e-9)
    assert ours.noise == pytest.approx(float(noise), rel=1e-9)


def test_a_batch_in_one_piece_shows_nothing():
    model, batch = tiny.model("llama"), tiny.batch()
    add_fused_lm_head(base_model(model), outputs=("log_probs",))
    ours = measured(model, batch)
    assert math.isnan(ours.signal)
    assert ours.logged() == {}


def test_the_estimates_are_free_of_bias():
    generator = torch.Generator().manual_seed(0)
    tokens, size, deviation = (3, 5, 2, 7), 10, 2.0
    mean = torch.full((size,), 0.3)
    signals, noises = [], []
    for _ in range(2_000):
        noise = GradientNoise()
        pieces = [
            (mean + deviation * torch.randn(n, size, generator=generator)).sum(0) for n in tokens
        ]
        for piece in pieces:
            noise.add(piece)
        noise.finish(tokens, [sum(pieces)])
        signals.append(noise.signal)
        noises.append(noise.noise)
    for values, truth in (
        (signals, size * 0.3**2),
        (noises, size * deviation**2 / sum(tokens)),
    ):
        values = torch.tensor(values, dtype=torch.float64)
        error = values.std() / len(values) ** 0.5
        assert abs(values.mean() - truth) < 4 * error
        assert error < 0.05 * truth
