"""The forms of GGUF: K-quants, and the adapter alone over a base, each certified by llama.cpp."""

import json
import shutil

import pytest
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader
from safetensors.torch import load_file, save_file

from strop.core.digest import folder_digests
from strop.core.errors import ConfigError, UnsupportedError
from strop.exporting import export
from strop.exporting.certify.certificate import judged, thresholds
from strop.exporting.certify.findings import Findings, report
from strop.exporting.certify.open_llama_cpp import look
from strop.exporting.certify.record import record_reference
from strop.exporting.gguf.base_file import GgufBase
from strop.exporting.gguf.quant_spec import forms
from strop.exporting.gguf.types import FILE_TYPES, decode, encode, fitting, with_more_bits
from strop.exporting.weights.sketches import ROUNDING
from strop.training import Run
from tests.tiny.saved import trained


def test_forms_are_named_once_and_wrong_ones_all_at_once():
    known = forms("q8_0,adapter,adapter-f16,dynamic,dynamic-1.1,Q8_0")
    assert [form.name for form in known] == ["q8_0", "adapter-f16", "dynamic-1.10"]
    with pytest.raises(ConfigError, match="--quant q9,adapter-q9 is not known; choose from f32"):
        forms("q9,q4_0,adapter-q9")


@pytest.mark.parametrize("name", FILE_TYPES)
def test_each_format_is_read_back_within_its_rounding(name):
    kind, _ = FILE_TYPES[name]
    rows = torch.randn(8, 512, generator=torch.Generator().manual_seed(0))
    decoded = decode(encode(rows, kind), kind)
    assert (decoded - rows).norm() / rows.norm() < ROUNDING[kind.name]


@pytest.mark.parametrize("name", ["q4_0", "q4_1", "q5_0", "q4_k", "q3_k", "q2_k"])
def test_importance_moves_the_error_to_where_it_matters_less(name):
    kind, _ = FILE_TYPES[name]
    rows = torch.randn(8, 512, generator=torch.Generator().manual_seed(0))
    importance = torch.ones(512)
    importance[::2] = 100
    plain, weighed = ((decode(encode(rows, kind, w), kind) - rows) for w in (None, importance))
    assert weighed[:, ::2].norm() < plain[:, ::2].norm()


def test_rows_that_no_large_block_divides_get_the_format_of_small_blocks():
    assert fitting(Type.Q4_K, (8, 512)) == Type.Q4_K
    assert fitting(Type.Q4_K, (8, 576)) == Type.Q5_0
    assert fitting(Type.Q4_K, (8, 100)) == Type.F16
    assert fitting(Type.Q4_K, (8,)) == Type.F32


def test_the_medium_formats_give_more_bits_where_llama_cpp_does():
    parts = ("attn_v.weight", "ffn_down.weight", "attn_q.weight")
    names = [f"blk.{block}.{part}" for block in range(16) for part in parts]
    chosen = [name for name in names if with_more_bits("q4_k_m", name, 16, tied=True)]
    blocks = (0, 1, 4, 7, 10, 13, 14, 15)
    assert chosen == [f"blk.{block}.{part}" for block in blocks for part in parts[:2]]
    assert with_more_bits("q5_k_m", "token_embd.weight", 16, tied=True)
    assert not with_more_bits("q5_k_m", "token_embd.weight", 16, tied=False)
    assert not with_more_bits("q4_k", "output.weight", 16, tied=False)


@pytest.fixture(autouse=True)
def separate_cache(tmp_path, monkeypatch):
    """Keep the bases of tiny models out of the user's cache."""
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module", params=["llama3", "gemma3", "phi3"])
def run(request, tmp_path_factory):
    return trained(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.slow
def test_an_adapter_alone_is_certified_over_its_base(run, tmp_path):
    (exported,) = export(run, "gguf", quant="adapter-f32", out=tmp_path)
    assert exported.certificate.passed, exported.certificate.faults
    assert exported.certificate.opened_by == "llama.cpp"
    assert exported.certificate.agreement.kl < thresholds("f32").kl / 10
    names = {tensor.name for tensor in GGUFReader(exported.path / "adapter.gguf").tensors}
    assert {name.rpartition(".")[2] for name in names} == {"lora_a", "lora_b"}
    assert len(names) == 2 * len(updated_weights(run))


def updated_weights(run):
    return [k for k in load_file(run.weights() / "adapter_model.safetensors") if "lora_A" in k]


@pytest.mark.slow
def test_k_quants_are_certified(tmp_path):
    run = trained("llama3", tmp_path, sizes={"hidden_size": 256, "intermediate_size": 512})
    for exported in export(run, "gguf", quant="q6_k,q5_k,q4_k_m", out=tmp_path):
        kinds = {t.tensor_type.name for t in GGUFReader(exported.path / "model.gguf").tensors}
        assert kinds >= {exported.format.removesuffix("_m").upper()}
        assert "Q6_K" in kinds or not exported.format.endswith("_m")
        assert exported.certificate.passed, exported.certificate.faults


def changed(run, folder, **config):
    """Return a copy of a run whose adapter says something else of itself."""
    shutil.copytree(run.path, folder)
    copied = Run.open(folder)
    file = copied.weights() / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    copied.update(adapter=folder_digests(copied.adapter_folder))
    return copied


@pytest.mark.slow
def test_scales_that_llama_cpp_does_not_know_are_written(run, tmp_path):
    scales = {"use_rslora": True, "lora_alpha": 4, "alpha_pattern": {"down_proj": 3}}
    other = changed(run, tmp_path / "run", **scales)
    (exported,) = export(other, "gguf", quant="adapter-f32", out=tmp_path)
    assert exported.certificate.passed, exported.certificate.faults


@pytest.mark.slow
def test_dora_is_refused_as_an_adapter_alone(run, tmp_path):
    other = changed(run, tmp_path / "run", use_dora=True)
    file = other.weights() / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(k for k in tensors if "o_proj.lora_B" in k)
    norms = torch.ones(len(tensors[name]))
    tensors[name.replace("lora_B.weight", "lora_magnitude_vector")] = norms
    save_file(tensors, file)
    other.update(adapter=folder_digests(other.adapter_folder))
    with pytest.raises(UnsupportedError, match=r"magnitudes \(DoRA\)"):
        export(other, "gguf", quant="adapter", out=tmp_path)


FAULTS = {
    "wrong alpha": (
        lambda file: field(file, 7.0),
        "times its update: alpha, rank or scale is wrong",
    ),
    "rotary halves": (
        lambda file: rows(file, "blk.0.attn_q.weight.lora_b", lambda b: b.roll(1, 0)),
        "q_proj.weight differs",
    ),
    "no update": (
        lambda file: rows(file, "blk.1.ffn_down.weight.lora_b", torch.zeros_like),
        "down_proj.weight is the base's: the adapter's update is missing",
    ),
}


def field(file, value):
    reader = GGUFReader(file, "r+")
    alpha = reader.get_field("adapter.lora.alpha")
    alpha.parts[alpha.data[0]][0] = value
    reader.data.flush()


def rows(file, name, change):
    reader = GGUFReader(file, "r+")
    data = next(t for t in reader.tensors if t.name == name).data
    data[:] = change(torch.from_numpy(data.copy())).numpy()
    reader.data.flush()


@pytest.mark.slow
def test_a_broken_adapter_fails_with_its_cause(run, tmp_path):
    assets = run.assets()
    if assets.config.model_type != "llama":
        pytest.skip("one family is enough")
    record_reference(run, assets).save(tmp_path / "work")
    (exported,) = export(run, "gguf", quant="adapter-f32", out=tmp_path, certified=False)
    base = GgufBase(run.settings, assets, "f32").file()
    for name, (break_it, cause) in FAULTS.items():
        broken = shutil.copy(exported.path / "adapter.gguf", tmp_path / "broken.gguf")
        break_it(broken)
        out = tmp_path / "findings.json"
        report(tmp_path / "work", out, lambda *alpha: look(base, *alpha, broken))  # noqa: B023
        faults = judged(Findings.open(out), thresholds("f32"))
        assert any(cause in fault for fault in faults), (name, faults)
