"""Formats chosen by what errors cost: dynamic GGUF and bitsandbytes folders, both certified."""

import json
import shutil

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file

from strop.core.errors import ConfigError
from strop.exporting import export
from strop.exporting.certify.certificate import judged, thresholds
from strop.exporting.certify.findings import Findings, report
from strop.exporting.certify.open_transformers import look
from strop.exporting.certify.record import record_reference
from tests.tiny.saved import trained

pytestmark = pytest.mark.slow  # they train, calibrate, export and open models


@pytest.fixture(scope="module", params=["llama3", "qwen2"])
def run(request, tmp_path_factory):
    return trained(request.param, tmp_path_factory.mktemp(request.param))


def test_a_dynamic_file_mixes_formats_within_its_budget_and_is_certified(run, tmp_path):
    plain, exported = export(run, "gguf", quant="q4_0,dynamic-1.25", out=tmp_path)
    assert exported.certificate.passed, exported.certificate.faults
    tensors = GGUFReader(exported.path / "model.gguf").tensors
    matrices = [t for t in tensors if len(t.shape) > 1]
    others = GGUFReader(plain.path / "model.gguf").tensors
    whole = sum(t.n_bytes for t in others if len(t.shape) > 1)
    assert 1.1 * whole < sum(t.n_bytes for t in matrices) <= 1.25 * whole
    assert sum(t.n_bytes for t in tensors) <= exported.nbytes
    assert len({t.tensor_type for t in matrices}) > 1
    assert exported.certificate.agreement.kl < plain.certificate.agreement.kl


def test_a_budget_that_nothing_fits_is_refused_before_anything_is_calibrated(run, tmp_path):
    with pytest.raises(ConfigError, match=r"dynamic-0.50 .*; the narrowest formats take 1.00"):
        export(run, "gguf", quant="dynamic-0.5", out=tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_bitsandbytes_folder_is_certified_and_its_faults_are_named(run, tmp_path):
    (exported,) = export(run, "bnb", out=tmp_path)
    assert exported.certificate.passed, exported.certificate.faults
    assert exported.certificate.opened_by == "transformers"
    config = json.loads((exported.path / "config.json").read_text())["quantization_config"]
    weights = load_file(exported.path / "model.safetensors")
    left = [n for n in config["llm_int8_skip_modules"] if f"{n}.weight" in weights]
    assert all(weights[f"{name}.weight"].dtype == torch.bfloat16 for name in left)
    packed = [name for name in weights if name.endswith(".absmax")]
    assert packed
    assert sum(t.nbytes for t in weights.values()) <= exported.nbytes
    record_reference(run, run.assets()).save(tmp_path / "work")
    broken = tmp_path / "broken"
    shutil.copytree(exported.path, broken)
    name = packed[0].removesuffix(".absmax")
    weights[f"{name}.absmax"] = weights[f"{name}.absmax"].roll(1)
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    out = tmp_path / "findings.json"
    report(tmp_path / "work", out, lambda *args: look("bnb", broken, *args))
    faults = judged(Findings.open(out), thresholds("nf4"))
    assert any(f"{name} differs from the trained weight" in fault for fault in faults), faults


def test_merged_weights_of_sixteen_bits_are_judged_by_their_rounding(run, tmp_path):
    (exported,) = export(run, "merged", dtype="bfloat16", out=tmp_path)
    assert not [f for f in exported.certificate.faults if "differs" in f]
