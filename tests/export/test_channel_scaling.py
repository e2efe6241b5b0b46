"""Channels scaled between weights: the function stays, Q8_0 loses less, one side alone is refused."""

import shutil
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file

from strop.exporting import export
from strop.exporting.certify.findings import Findings, report
from strop.exporting.certify.open_llama_cpp import look
from strop.exporting.certify.record import record_reference
from strop.exporting.gguf.channel_scaling import CHANNELS_SCALED, ChannelScaling
from strop.exporting.weights.tuned import PREFIX, Update
from strop.models.quantized.activation_stats import input_statistics
from strop.training import Run
from tests import tiny
from tests.tiny.saved import FAMILIES, trained

IDS = [[1, 20, 30, 40, 50, 60, 70, 80], [1, 90, 100]]


@pytest.fixture(params=FAMILIES)
def model(request):
    """Return a tiny random model of a family in float64, one of whose channels is large."""
    built = tiny.model(request.param, lora=False).eval()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith(("input_layernorm.weight", "pre_feedforward_layernorm.weight")):
                parameter.abs_().add_(0.1)
                parameter[5] = 90
    return built


def scaling_of(model):
    return ChannelScaling(input_statistics(model, IDS), model.config)


@torch.no_grad()
def test_the_function_stays_in_every_family(model):
    ids = torch.tensor(IDS[:1])
    before = model(input_ids=ids).logits
    weights = model.state_dict()
    scaling = scaling_of(model)
    for name, weight in weights.items():
        weight.copy_(scaling.apply(name, weight.clone()))
    torch.testing.assert_close(model(input_ids=ids).logits, before)


@torch.no_grad()
def test_all_linear_weights_are_scaled_but_those_that_read_attention(model):
    scaling = scaling_of(model)
    linear = {n for n in model.state_dict() if n.endswith("_proj.weight")}
    scaled = {n for n in linear if n in scaling}
    assert scaled == {n for n in linear if "o_proj" not in n}


def test_rows_and_updates_are_scaled_as_the_whole(model):
    scaling = scaling_of(model)
    for name, weight in model.state_dict().items():
        whole = scaling.apply(name, weight)
        parts = torch.cat([scaling.apply(name, weight[:3]), scaling.apply(name, weight[3:], 3)])
        assert torch.equal(whole, parts)
        if weight.ndim == 2:
            update = Update(torch.randn(2, weight.shape[1]), torch.randn(len(weight), 2), 0.5)
            added = update.joined(torch.zeros(weight.shape), 0)
            scaled = scaling.update(name, update).joined(torch.zeros(weight.shape), 0)
            torch.testing.assert_close(scaled, scaling.apply(name, added))


@torch.no_grad()
def test_inputs_differ_by_the_square_root_of_what_they_did(model):
    scaling, before = scaling_of(model), input_statistics(model, IDS)
    for name, weight in model.state_dict().items():
        weight.copy_(scaling.apply(name, weight.clone()))
    after = input_statistics(model, IDS)
    name = next(name for name in before if "layers.1.mlp.gate" in name)
    spread = [stats[name].log().std() for stats in (before, after)]
    torch.testing.assert_close(spread[1], spread[0] / 2, rtol=1e-3, atol=0)


def test_without_activation_stats_nothing_is_scaled(model):
    scaling = ChannelScaling({}, model.config)
    assert not scaling
    assert not any(name in scaling for name in model.state_dict())


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a run's Q8_0 and what its trained model says."""
    folder = tmp_path_factory.mktemp("gemma3")
    run = trained("gemma3", folder)
    record_reference(run, run.assets()).save(folder / "work")
    export(run, "gguf", quant="q8_0,q5_0", out=folder, certified=False)
    return folder


def faults(folder, file):
    out = folder / "findings.json"
    report(folder / "work", out, lambda *stats: look(file, *stats))
    return Findings.open(out).faults


@pytest.mark.slow
def test_a_scaled_file_is_the_trained_model_and_says_that_it_is_scaled(exported):
    file = exported / "gguf-q8_0" / "model.gguf"
    assert GGUFReader(file).get_field(CHANNELS_SCALED) is not None
    assert not faults(exported, file)
    plain = exported / "gguf-q5_0" / "model.gguf"
    assert GGUFReader(plain).get_field(CHANNELS_SCALED) is None
    assert not faults(exported, plain)


@pytest.mark.slow
def test_channels_scaled_on_one_side_only_are_refused(exported, tmp_path):
    file = Path(shutil.copy(exported / "gguf-q8_0" / "model.gguf", tmp_path))
    reader = GGUFReader(file, "r+")
    norm = next(t for t in reader.tensors if t.name == "blk.1.ffn_norm.weight")
    norm.data[3] *= 2
    reader.data.flush()
    assert any("pre_feedforward_layernorm.weight differs" in f for f in faults(exported, file))


@pytest.mark.slow
def test_a_run_notes_what_its_weights_read(exported):
    run = Run.open(exported / "run")
    stats = run.activation_stats()
    changed = load_file(run.weights() / "adapter_model.safetensors")
    named = {
        k.removeprefix(PREFIX).replace(".lora_A.weight", ".weight")
        for k in changed
        if "lora_A" in k
    }
    assert named <= stats.keys()
    assert all((energy > 0).all() for energy in stats.values())
