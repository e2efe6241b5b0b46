"""Rows of a base in few bits are read from its files, and are those of the model that loading builds."""

import pytest
import torch

import strop
from strop.exporting.weights.base_weights import bases
from strop.layers.quantized_linear import QuantizedLinear
from strop.models import load
from strop.models.assets import load_assets
from strop.models.precision import dtype_name
from tests.tiny.saved import save_model

SIZES = {"hidden_size": 128, "intermediate_size": 256}
"""Rows of whole groups, which bitsandbytes' CPU kernels and every format of strop's take."""


def as_it_is(model, folder):
    return model


def saved_by_transformers(model, folder):
    loaded, tokenizer = load(model, bits=4)
    loaded.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def within_a_budget(model, folder):
    strop.quantize(model, folder, budget=1.4, calibrate=TEXT)
    return folder


def by_bitsandbytes(model, folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    kind = AutoModelForCausalLM.from_pretrained(model, quantization_config=config)
    kind.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


TEXT = [{"text": f"{a} miles to the {b}, then {c} to the sea."}
        for a in range(9) for b in ("north", "south", "hill") for c in ("on", "down")]  # fmt: skip
FOLDERS = (as_it_is, saved_by_transformers, within_a_budget, by_bitsandbytes)


@pytest.mark.parametrize("family", ["qwen2", "gemma3"])  # with biases; with a tied head
@pytest.mark.parametrize("save", FOLDERS, ids=lambda save: save.__name__)
def test_rows_are_those_of_the_loaded_model(family, save, tmp_path, monkeypatch):
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    folder = save(save_model(family, tmp_path / "model", **SIZES), tmp_path / "made")
    model, _ = load(folder, bits=4)
    layers = {
        f"{name}.weight": layer
        for name, layer in model.named_modules()
        if isinstance(layer, QuantizedLinear)
    }
    settings = {"bits": 4, "dtype": dtype_name(model)}
    base, *original = bases(settings, load_assets(folder)).values()
    tensors = model.state_dict()
    for name in base.names:
        quantised = layers.get(name)
        whole = (
            tensors[name].float()
            if quantised is None
            else quantised.dense(torch.empty(quantised.shape))
        )
        assert base.shape(name) == tuple(whole.shape)
        assert torch.equal(base.rows(name, None, None), whole)
        assert torch.equal(base.rows(name, 3, 9), whole[3:9])
    if original:
        assert base.names == original[0].names
        return
    plain = [key for key in tensors if f"{key.rpartition('.')[0]}.weight" not in layers]
    biases = [key for key in tensors if key.endswith(".bias")]
    stored = {*plain, *biases} - set(model.all_tied_weights_keys)
    assert base.names == [*layers, *(key for key in tensors if key in stored)]
    assert {base.stored(name) for name in base.names} == {model.config.dtype}
