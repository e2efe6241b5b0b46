"""Checkpoints that bitsandbytes saved in 4 bits, opened without it and held to it bit by bit."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from strop.core.errors import DataError, UnsupportedError
from strop.layers.quantized_linear import QuantizedLinear
from strop.models import resolve
from strop.models.precision import bits_of
from tests.models import test_bits
from tests.models.test_bits import load

bnb = pytest.importorskip("bitsandbytes")


def saved(tmp_path, dtype=torch.bfloat16):
    """Save a tiny Llama whose rows are whole groups: others bitsandbytes makes wrong on a CPU."""
    return test_bits.saved(tmp_path, dtype, sizes={"hidden_size": 64, "intermediate_size": 128})


def quantised(plain, out, kind="nf4", nested=True, dtype=torch.bfloat16, skip=None):
    """Save the model in `plain` as bitsandbytes quantises it; return it as transformers has it."""
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=nested,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=skip,
    )
    model = AutoModelForCausalLM.from_pretrained(plain, quantization_config=config, dtype=dtype)
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(plain).save_pretrained(out)
    return model


def check_equal(theirs, ours, dtype):
    """Hold every 4-bit weight and every other tensor of ours to theirs; return how many weights."""
    count = 0
    for name, layer in theirs.named_modules():
        if not isinstance(layer, bnb.nn.Linear4bit):
            continue
        own = ours.get_submodule(name)
        assert isinstance(own, QuantizedLinear), name
        expected = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        assert expected.dtype == dtype
        assert torch.equal(own.dense(torch.empty(own.shape, dtype=dtype)), expected), name
        count += 1
    plain = {n: p for n, p in theirs.named_parameters() if p.is_floating_point()}
    own = dict(ours.named_parameters())
    assert all(torch.equal(own[n], p.to(own[n].dtype)) for n, p in plain.items())
    return count


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [True, False], ids=["double", "plain"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_are_bit_equal_to_those_of_bitsandbytes(tmp_path, kind, nested, dtype):
    theirs = quantised(saved(tmp_path, dtype), tmp_path / "bnb", kind, nested, dtype)
    ours, _ = load(tmp_path / "bnb")
    assert bits_of(ours) == 4
    assert check_equal(theirs, ours, dtype) == 3 * 7


def test_layers_that_bitsandbytes_left_out_are_read_as_they_are(tmp_path):
    skip = ["lm_head", "model.layers.1.mlp"]
    theirs = quantised(saved(tmp_path), tmp_path / "bnb", skip=skip)
    ours, _ = load(tmp_path / "bnb")
    assert check_equal(theirs, ours, torch.bfloat16) == 3 * 7 - 3
    assert not isinstance(ours.model.layers[1].mlp.up_proj, QuantizedLinear)


@pytest.mark.slow
def test_it_opens_where_bitsandbytes_is_not_installed_and_answers_alike(tmp_path):
    theirs = quantised(saved(tmp_path, torch.float32), tmp_path / "bnb", dtype=torch.float32)
    code = (
        "import sys; sys.modules['bitsandbytes'] = None\n"
        "import strop, torch\n"
        "model, _ = strop.load(sys.argv[1], dtype=torch.float32)\n"
        "print(model(torch.tensor([[3, 4, 5]])).logits[0, -1].tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "bnb")],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = theirs(torch.tensor([[3, 4, 5]])).logits[0, -1]
    found = torch.tensor(json.loads(done.stdout))
    # The head and the embedding are held in 16 bits here and in float32 there.
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_files_that_do_not_belong_together_are_an_error(tmp_path):
    quantised(saved(tmp_path), tmp_path / "bnb")
    file = tmp_path / "bnb" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "intermediate_size": 192}))
    with pytest.raises(DataError, match=r"is \[64, 128\], its config\.json asks for \[64, 192\]"):
        load(tmp_path / "bnb")
    file.write_text(json.dumps(config))
    weights = load_file(tmp_path / "bnb" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = weights[name].view(-1, 2).view(torch.bfloat16)
    save_file(weights, tmp_path / "bnb" / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnsupportedError, match=r"up_proj packed as BF16; .* as uint8"):
        load(tmp_path / "bnb")


@pytest.mark.slow
def test_a_real_model_is_bit_equal_too(tmp_path):
    theirs = quantised(resolve("smollm2-135m-instruct"), tmp_path / "bnb")
    ours, tokenizer = load(tmp_path / "bnb")
    assert check_equal(theirs, ours, torch.bfloat16) == 30 * 7
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert tokenizer.decode(ours(ids).logits[0, -1].argmax()).strip() == "Paris"
