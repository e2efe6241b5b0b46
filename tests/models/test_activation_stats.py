"""What weights read, channel by channel, beside what transformers' own layers are given."""

import pytest
import torch

from strop.models.quantized import activation_stats as module
from strop.models.quantized.activation_stats import input_statistics
from tests import tiny

IDS = [[5, 6, 7, 8, 9], [10, 11, 12]]


def seen(model, name, ids):
    """Return the mean square of what the layer of that name is given, one token at a time."""
    inputs = []
    layer = model.get_submodule(name)
    hook = layer.register_forward_pre_hook(lambda _, given: inputs.extend(given[0][0].unbind()))
    with torch.no_grad():
        for row in ids:
            model(input_ids=torch.tensor([row]))
    hook.remove()
    return torch.stack(inputs).square().mean(0).float()


@pytest.mark.parametrize("family", tiny.FAMILIES | tiny.UNKNOWN)
def test_they_are_what_each_layer_is_given(family):
    model = tiny.model(family).eval()
    statistics = input_statistics(model, IDS)
    layers = [n for n, m in model.named_modules() if hasattr(m, "base_layer")]
    assert layers
    assert len(statistics) == len(layers) + 1
    for name in layers:
        weight = f"{name.removeprefix('base_model.model.')}.weight"
        torch.testing.assert_close(statistics[weight], seen(model, name, IDS))
    tied = model.config.tie_word_embeddings
    head = statistics["model.embed_tokens.weight" if tied else "lm_head.weight"]
    torch.testing.assert_close(head, seen(model, "base_model.model.lm_head", IDS))


def test_it_reads_no_more_tokens_than_it_needs(monkeypatch):
    monkeypatch.setattr(module, "TOKENS", 7)
    model = tiny.model("llama").eval()
    first, second = (
        input_statistics(model, [*IDS, [1] * 50]),
        input_statistics(model, [IDS[0], IDS[1][:2]]),
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(m._forward_pre_hooks for m in model.modules())
