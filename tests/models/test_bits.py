"""Weights held in 4, 16 and 32 bits: what is opened, what is lost, what PEFT and the blocks make of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

import strop.models
from strop.core.errors import ConfigError, DataError, UnsupportedError
from strop.forward.compact import install
from strop.layers.narrow import NarrowEmbedding, NarrowLinear
from strop.layers.quantized_linear import QuantizedLinear
from strop.models.precision import bits_of, computes_in, described, store_narrow
from strop.models.quantized.on_load import packed_folder
from tests.tiny import FAMILIES, UNKNOWN, batch, model
from tests.tiny.saved import save_tiny_llama


def load(*args, **named):
    """Load with products in float32, also on machines that are faster in 16 bits."""
    return strop.models.load(*args, **named, dtype=torch.float32)


SIZES = {"hidden_size": 64, "intermediate_size": 96, "vocab_size": 320}
"""Whole groups of 64 and of 32; every id of the tokenizer."""


def saved(tmp_path, dtype=torch.bfloat16, family="llama", sizes=SIZES):
    """Save a tiny model in `dtype` with a tokenizer beside it."""
    folder = save_tiny_llama(tmp_path / "tokens")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    where = tmp_path / family
    built = model(family, dtype=torch.float32, lora=False, attention="eager", sizes=sizes)
    built.to(dtype).save_pretrained(where)
    tokenizer.save_pretrained(where)
    return where


def adapted(base):
    settings = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = get_peft_model(base, settings)
    torch.manual_seed(1)
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            parameter.data = nn.init.normal_(parameter.to(computes_in(base)), std=0.1)
    return tuned


def losses_and_gradients(tuned, **compact):
    """Return log-probabilities of a batch and the gradients of every adapter tensor."""
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(tuned.get_base_model(), outputs=("log_probs",))
    _, undo = install(tuned, **compact)
    try:
        output = tuned(**batch(), fused_lm_head=True, use_cache=False)
    finally:
        undo()
    output.log_probs.sum().backward()
    gradients = {n: p.grad for n, p in tuned.named_parameters() if p.requires_grad}
    return output.log_probs.detach(), gradients


def dense_twin(narrow, folder, dtype=torch.float32):
    """Return a model of plain layers with the same weights."""
    wide = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    for name, layer in narrow.named_modules():
        if isinstance(layer, QuantizedLinear):
            dense = layer.dense(torch.empty(layer.shape, dtype=dtype))
            wide.get_submodule(name.removesuffix(".base_layer")).weight.data = dense
    return wide


def in_file(tensor):
    """Say whether a tensor lies in a memory-mapped file of weights."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(".safetensors"):
            first, last = (int(x, 16) for x in line.split()[0].split("-"))
            if first <= tensor.data_ptr() < last:
                return True
    return False


def test_16_bits_lose_nothing_of_a_bfloat16_checkpoint_and_stay_in_its_file(tmp_path):
    folder = saved(tmp_path)
    narrow, _ = load(folder, bits=16)
    wide = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = batch()["input_ids"]
    assert torch.equal(narrow(ids).logits, wide(ids).logits)
    assert computes_in(narrow) == torch.float32
    assert bits_of(narrow) == 16
    linears = [m for m in narrow.modules() if isinstance(m, nn.Linear | nn.Embedding)]
    assert len(linears) == 3 * 7 + 2
    assert all(m.weight.dtype == torch.bfloat16 and in_file(m.weight) for m in linears)


@pytest.mark.parametrize("family", ["llama3", "gemma3", "phi3", "olmo2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_family_computes_with_narrow_weights_what_it_computes_with_wide_ones(
    tmp_path, family, dtype
):
    folder = saved(tmp_path, dtype, family)
    narrow, _ = load(folder, bits=16)
    wide = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = batch()["input_ids"]
    assert torch.equal(narrow(ids).logits, wide(ids).logits)
    tied = wide.config.tie_word_embeddings
    assert (narrow.get_output_embeddings().weight is narrow.get_input_embeddings().weight) == tied


def test_wider_checkpoints_are_rounded_and_logged_and_their_files_closed(tmp_path, caplog):
    folder = saved(tmp_path, torch.float32)
    with caplog.at_level("INFO", "strop"):
        narrow, _ = load(folder, bits=16)
    assert str(folder) not in Path("/proc/self/maps").read_text()
    assert "they are rounded to bfloat16" in caplog.text
    wide, _ = load(folder, bits=32)
    assert bits_of(wide) == 32
    assert torch.equal(narrow.lm_head.weight, wide.lm_head.weight.bfloat16())
    assert torch.equal(narrow.model.norm.weight, wide.model.norm.weight)


@pytest.mark.parametrize("family", [*FAMILIES, *UNKNOWN])
@pytest.mark.parametrize("bits", [4, 16])
def test_the_blocks_train_on_narrow_weights_what_plain_layers_train(tmp_path, family, bits):
    folder = saved(tmp_path, torch.bfloat16, family)
    place = packed_folder(folder) if bits == 4 else folder
    narrow = AutoModelForCausalLM.from_pretrained(place, dtype=torch.bfloat16)
    store_narrow(narrow, torch.float64)
    dense = dense_twin(narrow, folder, torch.float64)
    for activations in ("keep", "checkpoint"):
        first, second = adapted(narrow), adapted(dense)
        actual, gradients = losses_and_gradients(first, activations=activations, fuse="always")
        expected, expected_gradients = losses_and_gradients(
            second, activations=activations, fuse="always"
        )
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)
        for name, gradient in expected_gradients.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-9, msg=name)
        narrow, dense = first.unload(), second.unload()


def test_4_bits_are_built_once_and_then_opened_from_the_cache_file_by_file(tmp_path):
    folder = saved(tmp_path)
    first, _ = load(folder, bits=4)
    place = packed_folder(folder)
    written = (place / "model.safetensors").stat().st_mtime_ns
    second, _ = load(folder, bits=4)
    assert (place / "model.safetensors").stat().st_mtime_ns == written
    layers = [m for m in second.modules() if isinstance(m, QuantizedLinear)]
    assert len(layers) == 3 * 7
    assert all(in_file(m.weight) and in_file(m.scale_codes) for m in layers)
    assert isinstance(second.lm_head, NarrowLinear)
    assert isinstance(second.model.embed_tokens, NarrowEmbedding)
    assert second.name_or_path == str(folder)
    ids = batch()["input_ids"]
    assert torch.equal(first(ids).logits, second(ids).logits)
    assert 4.13 < described(second)["bits_per_quantised_weight"] < 4.26  # groups of 64 and of 32
    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v * 2 for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    third, _ = load(folder, bits=4)
    assert not torch.equal(third.lm_head.weight, second.lm_head.weight)


@pytest.mark.parametrize(
    "imports",
    [
        "import strop.models; from transformers import AutoModelForCausalLM",
        "from transformers import AutoModelForCausalLM; import strop.models",
        "import transformers.quantizers, strop.models; from transformers import AutoModelForCausalLM",
    ],
)
def test_transformers_opens_such_a_folder_whichever_is_imported_first(tmp_path, imports):
    place = packed_folder(saved(tmp_path))
    code = (
        f"{imports}; m = AutoModelForCausalLM.from_pretrained({str(place)!r}); "
        "print(type(m.model.layers[0].mlp.up_proj).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["QuantizedLinear"], done.stderr


def test_importing_strop_models_imports_no_quantiser_of_transformers():
    code = "import sys, strop.models; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_transformers_opens_such_a_folder_once_strop_models_is_imported(tmp_path):
    place = packed_folder(saved(tmp_path))
    ours, _ = load(tmp_path / "llama", bits=4)
    theirs = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    ids = batch()["input_ids"]
    assert torch.equal(theirs(ids).logits, ours(ids).logits)
    plain = theirs.dequantize()
    assert type(plain.model.layers[0].mlp.up_proj) is nn.Linear
    torch.testing.assert_close(plain(ids).logits, ours(ids).logits)
    half = AutoModelForCausalLM.from_pretrained(place, dtype=torch.bfloat16)
    assert half(ids).logits.dtype == torch.bfloat16


def test_a_saved_quantised_model_opens_again(tmp_path):
    first, _ = load(saved(tmp_path), bits=4)
    first.save_pretrained(tmp_path / "again")
    AutoTokenizer.from_pretrained(tmp_path / "llama").save_pretrained(tmp_path / "again")
    second, _ = load(tmp_path / "again")
    ids = batch()["input_ids"]
    assert torch.equal(first(ids).logits, second(ids).logits)
    with pytest.raises(ConfigError, match=r"bits is 16, but the weights in .* are quantised"):
        load(tmp_path / "again", bits=16)


@pytest.mark.parametrize("bits", [4, 16])
def test_a_saved_adapter_is_stock_peft_and_loads_on_the_plain_model(tmp_path, bits):
    folder = saved(tmp_path)
    narrow, _ = load(folder, bits=bits)
    tuned = adapted(narrow)
    assert {p.dtype for p in tuned.parameters() if p.requires_grad} == {torch.float32}
    tuned.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(dense_twin(narrow, folder), tmp_path / "adapter")
    ids = batch()["input_ids"]
    torch.testing.assert_close(again(ids).logits, tuned(ids).logits)


@pytest.mark.parametrize("kind", ["MixtralConfig", "Qwen3MoeConfig"])
def test_a_mixture_of_experts_is_refused_in_4_bits_and_served_in_16(tmp_path, kind):
    import transformers

    folder = save_tiny_llama(tmp_path / "moe")
    torch.manual_seed(0)
    config = getattr(transformers, kind)(
        vocab_size=259, hidden_size=64, intermediate_size=96, moe_intermediate_size=96,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, num_experts=4,
        num_local_experts=4, num_experts_per_tok=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_config(config).bfloat16().save_pretrained(folder)
    with pytest.raises(UnsupportedError, match=r"outside linear layers .*experts.* use bits=16"):
        load(folder, bits=4)
    narrow, _ = load(folder, bits=16)
    wide = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = batch()["input_ids"]
    torch.testing.assert_close(narrow(ids).logits, wide(ids).logits)


def test_a_damaged_weight_is_named_with_its_layer(tmp_path):
    folder = saved(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"layers\.1\.mlp\.up_proj\.weight holds nan at \[3, 5\]"):
        load(folder, bits=4)


def test_what_cannot_be_read_is_said(tmp_path):
    folder = saved(tmp_path)
    written = json.loads((folder / "config.json").read_text())

    def with_quantisation(**entry):
        (folder / "config.json").write_text(json.dumps({**written, "quantization_config": entry}))

    with_quantisation(quant_method="awq", bits=4)
    with pytest.raises(UnsupportedError, match="is quantised by awq; strop reads its own"):
        load(folder)
    with_quantisation(quant_method="bitsandbytes", load_in_8bit=True)
    with pytest.raises(UnsupportedError, match="quantised to 8 bits by bitsandbytes"):
        load(folder)
    with_quantisation(quant_method="bitsandbytes", load_in_4bit=True)
    with pytest.raises(DataError, match="no weight in it is quantised"):
        load(folder)
    with_quantisation(quant_method="strop", version=2)
    with pytest.raises(UnsupportedError, match=r"version 2 of strop's format; .* upgrade strop"):
        load(folder)
    with_quantisation(quant_method="strop", version=1, modules={"model.nowhere": "4b64"})
    with pytest.raises(UnsupportedError, match=r"1 quantised .* \(model\.nowhere: no such layer\)"):
        load(folder)
    with_quantisation(quant_method="strop", version=1, modules={"model.nowhere": "9b64"})
    with pytest.raises(DataError, match="formats that are not known: 9b64; known are 4b128"):
        load(folder)


BEYOND = """
import json, resource, sys, psutil, torch
from pathlib import Path
from transformers import AutoModelForCausalLM
import strop.models
small, large = sys.argv[1:]
AutoModelForCausalLM.from_pretrained(small, dtype=torch.bfloat16)  # imports what opening needs
before = psutil.Process().memory_info().rss
model = AutoModelForCausalLM.from_pretrained(large, dtype=torch.bfloat16)
took = psutil.Process().memory_info().rss - before
print(json.dumps([took, sum(t.nbytes for t in model.state_dict().values())]))
"""


@pytest.mark.slow
def test_a_model_larger_than_the_memory_opens(tmp_path):
    """Its files are sparse: nothing is stored, and only what is read takes memory."""
    import psutil

    config = model("llama", dtype=torch.float32, lora=False).config
    config.hidden_size, config.intermediate_size, config.head_dim = 8192, 28672, 2048
    layer = 7 * 8192 * 8192  # bytes, about, of one in 4 bits: 13.5 times 8192 * 8192 weights
    config.num_hidden_layers = 1
    write_sparse(tmp_path / "small", config)
    config.num_hidden_layers = 5 * psutil.virtual_memory().total // (4 * layer)
    write_sparse(tmp_path / "huge", config)
    done = subprocess.run([sys.executable, "-c", BEYOND, tmp_path / "small", tmp_path / "huge"],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    took, size = json.loads(done.stdout)
    assert size > psutil.virtual_memory().total
    assert took < size / 100


def write_sparse(folder, config):
    """Write the files of a quantised model of this configuration, full of holes."""
    from transformers import LlamaForCausalLM

    from strop.models.quantized.hf_quantizer import StropConfig, empty_layer
    from strop.models.quantized.on_load import quantisable

    with torch.device("meta"):
        meta = LlamaForCausalLM(config).bfloat16()
        chosen = dict(quantisable(meta))
        for name, form in chosen.items():
            meta.set_submodule(name, empty_layer(meta.get_submodule(name), form))
    folder.mkdir()
    config.quantization_config = StropConfig(chosen)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    shards, where = {}, {}
    for name, tensor in meta.state_dict().items():
        shard = f"model-{name.split('.')[2] if '.layers.' in name else 'rest'}.safetensors"
        shards.setdefault(shard, {})[name] = tensor
        where[name] = shard
    kinds = {torch.uint8: "U8", torch.float32: "F32", torch.bfloat16: "BF16"}
    for shard, tensors in shards.items():
        at, header = 0, {"__metadata__": {"format": "pt"}}
        for name, t in sorted(tensors.items(), key=lambda item: -item[1].element_size()):
            entry = {"dtype": kinds[t.dtype], "shape": list(t.shape)}
            header[name] = {**entry, "data_offsets": [at, at + t.nbytes]}
            at += t.nbytes
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / shard).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + at)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
