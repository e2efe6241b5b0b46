"""Whole models: quantised to a folder, opened again, refused in clear sentences."""

import json
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    Qwen3MoeConfig,
    set_seed,
)

import strop
import strop.models  # registers the quantiser with transformers
from strop.core.errors import ConfigError, DataError, ShapeError, UnsupportedError
from strop.layers.quantized_linear import QuantizedLinear
from strop.models.loading import load_tokenizer
from strop.models.lora import initialisation as lora_init
from strop.ops.dequantize import dequantize
from strop.quantization.formats import FORMATS
from strop.quantization.matrix import quantize
from tests.tiny.saved import sums

RANK = 4
TEXT = "The quick brown fox jumps over the lazy dog, and then it rests. What else is there to do?"


@pytest.fixture(scope="module")
def plain(tiny_model, tmp_path_factory):
    """Folder of a random Llama that is sure of its next tokens, so that errors show."""
    folder = tmp_path_factory.mktemp("plain") / "llama"
    config = LlamaConfig(
        vocab_size=300, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        initializer_range=0.1,
    )  # fmt: skip
    set_seed(0)
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    load_tokenizer(str(tiny_model)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def quantized(plain, tmp_path_factory):
    out = tmp_path_factory.mktemp("quantized") / "out"
    return out, strop.quantize(plain, out, budget=1.2, adapter_rank=RANK)


def log_probs(model):
    ids = load_tokenizer(model.name_or_path)(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        return model(ids).logits.float().log_softmax(-1)


def formats_of(report):
    """Return bits and group of each layer, in the order they stand in the model."""
    forms = [(FORMATS[g["format"]], len(g["layers"])) for g in report["groups"]]
    return [(form.bits, form.group) for form, count in forms for _ in range(count)]


def opened(folder):
    """Return the model in float32, whichever format is the faster on this machine."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def kl(p, q):
    return float((p.exp() * (p - q)).sum(-1).mean())


def test_the_folder_opens_and_is_as_near_to_the_original_as_it_says(quantized, plain):
    out, report = quantized
    original = opened(plain)
    by_strop, _ = strop.load(out)
    p, q = log_probs(original), log_probs(opened(out))
    assert kl(p, q) < 3 * report["measured"]["strop"]["kl"]
    layers = [m for m in by_strop.modules() if isinstance(m, QuantizedLinear)]
    assert [(layer.bits, layer.group) for layer in layers] == formats_of(report)
    assert report["measured"]["strop"]["kl"] < report["measured"]["nf4"]["kl"]
    assert report["measured"]["original"]["kl"] == 0
    assert json.loads((out / "quantization.json").read_text()) == report
    assert (out / "quantization.svg").read_text().startswith("<svg")


def test_the_bytes_are_those_in_the_file_and_within_the_budget(quantized):
    out, report = quantized
    modules = json.loads((out / "config.json").read_text())["quantization_config"]["modules"]
    stored = 0
    with safe_open(out / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118  it is no dict
            module, _, part = name.rpartition(".")
            if module in modules and part in ("weight", "scale_codes", "factors"):
                stored += file.get_tensor(name).nbytes
    assert stored == report["bytes"]
    assert report["bytes_over_nf4"] <= 1.2
    assert len(modules) == 2 * 7


def test_layers_that_are_computed_together_share_a_format(quantized):
    shared = [[n.rpartition(".")[2] for n in group["layers"]] for group in quantized[1]["groups"]]
    together = (["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"])
    assert shared == [*together, *together]


def test_an_adapter_may_start_where_it_cancels_part_of_the_error(quantized, plain):
    out, report = quantized
    kls = {name: measured["kl"] for name, measured in report["measured"].items()}
    assert kls["strop_with_adapter"] < kls["strop"]
    original = opened(plain)
    bare = opened(out)
    config = LoraConfig(
        r=RANK, lora_alpha=3 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    tuned = get_peft_model(opened(out), config).eval()
    assert lora_init.begin(tuned, out / lora_init.FOLDER) == 14
    p = log_probs(original)
    assert kl(p, log_probs(tuned)) < kl(p, log_probs(bare))
    stock = PeftModel.from_pretrained(opened(out), out / lora_init.FOLDER)
    torch.testing.assert_close(log_probs(stock), log_probs(tuned))


def test_a_plain_model_opened_in_4_bits_is_fitted_to_text_too(plain):
    original = opened(plain)
    fitted, _ = strop.load(plain, bits=4, dtype=torch.float32)
    rounded, p = opened(plain), log_probs(original)
    for name, layer in fitted.named_modules():
        if isinstance(layer, QuantizedLinear):
            weight = rounded.get_submodule(name).weight.data
            weight.copy_(dequantize(quantize(weight, FORMATS["4b64"])))
    assert kl(p, log_probs(fitted)) < 0.8 * kl(p, log_probs(rounded))


def test_merging_means_the_stored_weight_plus_the_adapter(quantized, plain):
    out, _ = quantized
    tuned = PeftModel.from_pretrained(opened(out), out / lora_init.FOLDER)
    merged = opened(plain)
    for name, layer in tuned.base_model.model.named_modules():
        if hasattr(layer, "lora_A"):
            added = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
            stored = dequantize(layer.base_layer.packed)
            merged.get_submodule(name).weight.data = (stored + added).detach()
    torch.testing.assert_close(log_probs(merged), log_probs(tuned))


def test_a_start_of_another_rank_is_refused(quantized):
    out, _ = quantized
    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = get_peft_model(opened(out), config)
    with pytest.raises(ShapeError, match=r"has rank 2 and the start .* has rank 4; use rank=4"):
        lora_init.begin(tuned, out / lora_init.FOLDER)
    with pytest.raises(DataError, match="holds no start for an adapter"):
        lora_init.begin(tuned, out)


def test_a_run_may_begin_at_the_correction(quantized, tmp_path):
    out, _ = quantized
    settings = {"model": out, "rank": RANK, "alpha": 3 * RANK, "lora_init": "quantization_error"}
    run = strop.train(
        sums(8), out=tmp_path / "run", max_steps=1, learning_rate=1e-12, quiet=True, **settings
    )
    start = load_file(out / lora_init.FOLDER / "adapter_model.safetensors")
    trained = load_file(run.adapter_folder / "adapter_model.safetensors")
    assert len(start) == len(trained) == 28
    for name, tensor in start.items():
        expected = tensor / 3 if "lora_B" in name else tensor
        torch.testing.assert_close(trained[name], expected)
    with pytest.raises(
        ConfigError, match=r"rank is 8, and the start of an adapter in .* has rank 4"
    ):
        strop.train(sums(8), out=tmp_path / "no", **{**settings, "rank": 8})
    assert not (tmp_path / "no").exists()


def test_a_model_without_a_correction_says_how_to_get_one(plain, tmp_path):
    with pytest.raises(ConfigError, match=r"holds none; write one with\s+strop quantize"):
        strop.train(sums(8), model=plain, out=tmp_path / "run", lora_init="quantization_error")


def test_a_given_kl_is_not_exceeded(plain, tmp_path, quantized):
    max_kl = quantized[1]["measured"]["strop"]["kl"] / 2
    report = strop.quantize(plain, tmp_path / "out", max_kl=max_kl)
    assert report["measured"]["strop"]["kl"] <= max_kl
    assert report["bytes"] > quantized[1]["bytes"]


def test_impossible_settings_are_all_named_before_anything_is_loaded(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as e:
        strop.quantize("no model", tmp_path, budget=-1, max_kl=0.1, adapter_rank=-2)
    for part in ("give one of them", "budget is -1", "adapter_rank is -2", "not an empty folder"):
        assert part in str(e.value)


def test_a_budget_below_the_possible_is_refused_with_the_least(plain, tmp_path):
    with pytest.raises(ConfigError, match=r"budget is 0\.5 times .* ask for at least that"):
        strop.quantize(plain, tmp_path / "out", budget=0.5)
    assert not list(tmp_path.iterdir())


def test_too_little_text_is_refused_with_both_counts(plain, tmp_path):
    text = tmp_path / "short.txt"
    text.write_text("far too short")
    with pytest.raises(DataError, match=r"has 14 tokens; it needs at least two sequences of 256"):
        strop.quantize(plain, tmp_path / "out", calibrate=text)
    assert list(tmp_path.iterdir()) == [text]


def test_damaged_weights_are_all_named(plain, tmp_path):
    model, tokenizer = strop.load(plain, bits=32)
    model.model.layers[0].mlp.up_proj.weight.data[3, 5] = torch.nan
    model.model.layers[1].self_attn.o_proj.weight.data[0, 1] = torch.inf
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "damaged")
    with pytest.raises(DataError) as e:
        strop.quantize(tmp_path / "damaged", tmp_path / "out")
    assert "model.layers.0.mlp.up_proj.weight holds nan at [3, 5]" in str(e.value)
    assert "model.layers.1.self_attn.o_proj.weight holds inf at [0, 1]" in str(e.value)


def test_a_quantised_model_is_not_quantised_again(quantized, tmp_path):
    with pytest.raises(ConfigError, match="is quantised already, by strop"):
        strop.quantize(quantized[0], tmp_path / "out")


@pytest.mark.parametrize("kind", [MixtralConfig, Qwen3MoeConfig])
def test_a_mixture_of_experts_is_refused_with_a_tensor_of_its_experts(kind, tmp_path, tiny_model):
    config = kind(
        vocab_size=300, hidden_size=64, intermediate_size=64, moe_intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=32,
        num_local_experts=4, num_experts=4, max_position_embeddings=256,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "moe")
    load_tokenizer(str(tiny_model)).save_pretrained(tmp_path / "moe")
    with pytest.raises(UnsupportedError, match=r"experts\.\w+.*mixtures of experts"):
        strop.quantize(tmp_path / "moe", tmp_path / "out")
    assert not (tmp_path / "out").exists()


FULL = """
import resource, sys
import strop
from strop.core.errors import UnsupportedError

def progress(stage, done, total):
    if stage == sys.argv[3]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))

try:
    strop.quantize(sys.argv[1], sys.argv[2], progress=progress)
except UnsupportedError as e:
    print(e)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "said"),
    [("measuring inputs and gradients", "calibration needs room"), ("quantising", "make room")],
)
def test_a_full_disk_is_explained_and_nothing_half_written_stays(plain, tmp_path, stage, said):
    command = [sys.executable, "-c", FULL, str(plain), str(tmp_path / "out"), stage]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert not list(tmp_path.iterdir())
