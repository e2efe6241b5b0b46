"""What calibration tells of layers is what a whole model's gradients say, and nothing of it stays."""

import gc

import pytest
import torch

from strop.models.quantized.block_runner import take_apart
from strop.quantization.calibration import MOST, Grams, calibrate
from strop.quantization.linear_layers import watching_inputs
from tests import tiny

LENGTH, TEXTS = 24, 3


def nothing(stage, done, total):
    pass


@pytest.fixture(scope="module")
def model():
    return tiny.model("gemma3", dtype=torch.float32, lora=False).requires_grad_(False)


@pytest.fixture(scope="module")
def texts():
    rng = torch.Generator().manual_seed(0)
    return [torch.randint(3, 200, (LENGTH,), generator=rng) for _ in range(TEXTS)]


@pytest.fixture(scope="module")
def calibrated(model, texts):
    decoder, entering = take_apart(model, texts)
    return calibrate(decoder, entering, nothing)


@pytest.fixture(scope="module")
def whole(model, texts):
    """Inputs [N, D] of each layer and gradients [N, E] at its outputs, from passes of the model."""
    seen = {}
    handles = []
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and ".layers." in name:
            ins, outs = seen.setdefault(name, ([], []))

            def note(layer, args, out, ins=ins, outs=outs):
                out.retain_grad()
                ins.append(args[0])
                outs.append(out)

            handles.append(layer.register_forward_hook(note))
    rng = torch.Generator().manual_seed(0)
    for ids in texts:
        embedded = model.get_input_embeddings()(ids[None]).detach().requires_grad_()
        log_probs = model(inputs_embeds=embedded, use_cache=False).logits[0].log_softmax(-1)
        drawn = torch.multinomial(log_probs.detach().exp(), 1, generator=rng)
        log_probs.gather(1, drawn).sum().backward()
    for handle in handles:
        handle.remove()
    return {
        name: (
            torch.cat([x.detach().flatten(0, -2) for x in ins]),
            torch.cat([y.grad.flatten(0, -2) for y in outs]),
        )
        for name, (ins, outs) in seen.items()
    }


def test_gradients_are_those_of_the_whole_model(calibrated, whole):
    assert calibrated.keys() == whole.keys()
    for name, layer in calibrated.items():
        expected = whole[name][1].square().mean(0)
        torch.testing.assert_close(layer.output_grad_sq, expected, rtol=1e-5, atol=0)


def test_a_token_weighs_what_an_error_costs_there_up_to_a_bound(calibrated, whole):
    for layer in calibrated.values():
        members = [name for name, other in calibrated.items() if other.group == layer.group]
        squares = sum(whole[name][1].square().sum(1) for name in members).view(TEXTS, LENGTH)
        bound = MOST * squares.median(1, keepdim=True).values
        expected = torch.minimum(squares, bound).flatten()
        torch.testing.assert_close(layer.tokens, expected, rtol=1e-5, atol=0)


def test_grams_are_weighted_means_over_the_tokens(calibrated, whole):
    name = next(iter(calibrated))
    x, grams = whole[name][0], Grams(calibrated)
    for text in x.view(TEXTS, 1, LENGTH, -1):
        grams.take(name, text)
    w = calibrated[name].tokens.double()
    expected = torch.einsum("t,td,te->de", w / w.sum(), x.double(), x.double())
    size = expected.diagonal().sqrt()
    rounding = len(x) * torch.finfo(torch.float32).eps * size.outer(size)  # of so many products
    assert ((grams[name].double() - expected).abs() <= rounding).all()
    torch.testing.assert_close(
        calibrated[name].energy.double(), expected.diagonal(), rtol=1e-5, atol=0
    )


def test_without_calibration_large_inputs_count_no_more_and_the_same_layers_share(
    model, texts, calibrated, whole
):
    decoder, entering = take_apart(model, texts)
    block, grams = decoder.copied(0), Grams()
    with torch.no_grad(), watching_inputs(block.linears, grams.take):
        for rows in entering:
            block(rows)
    assert len(block.linears) == 7
    for name in block.linears:
        assert name in grams
        assert grams.group(name) == calibrated[name].group
        x = whole[name][0].double()
        squares = x.square().sum(1).view(TEXTS, LENGTH)
        w = (squares.median(1, keepdim=True).values / squares).clamp(max=MOST).flatten()
        expected = torch.einsum("t,td,te->de", w / w.sum(), x, x)
        size = expected.diagonal().sqrt()
        rounding = len(x) * torch.finfo(torch.float32).eps * size.outer(size)
        assert ((grams[name].double() - expected).abs() <= rounding).all()
    assert "model.layers.1.mlp.up_proj" not in grams


def test_no_graph_stays_behind(model, texts):
    def graphs():
        gc.collect()
        tensors = (o for o in gc.get_objects() if issubclass(type(o), torch.Tensor))
        return sum(tensor.grad_fn is not None for tensor in tensors)

    decoder, entering = take_apart(model, texts)
    before = graphs()
    calibrate(decoder, entering, nothing)
    assert graphs() == before
