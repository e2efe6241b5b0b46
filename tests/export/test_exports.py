"""Every family is certified; of two bases the nearer is taken; the command says what it found."""

import html
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from strop.exporting import export
from strop.exporting.certify.base_choice import measured
from strop.exporting.certify.certificate import (
    CLOSE,
    ROUNDED,
    SURE,
    Certificate,
    judged,
    thresholds,
    within,
)
from strop.exporting.certify.findings import Findings, report
from strop.exporting.certify.open_llama_cpp import look as look_llama_cpp
from strop.exporting.certify.open_transformers import look as look_transformers
from strop.exporting.certify.record import record_reference
from strop.exporting.gguf.channel_scaling import ChannelScaling
from strop.exporting.weights.base_weights import DEQUANTISED, ORIGINAL, bases
from strop.exporting.weights.tuned import TunedWeights
from strop.layers.quantized_linear import QuantizedLinear
from strop.metrics.divergence import FAR, Agreement, considered
from strop.models import load
from strop.training import Run
from tests.tiny.saved import FAMILIES, trained

slow = pytest.mark.slow  # they train, export and open models


@slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_opened_by_transformers_and_llama_cpp_and_agrees(family, tmp_path):
    run = trained(family, tmp_path, epochs=2)
    record_reference(run, run.assets()).save(tmp_path / "work")
    merged, gguf = export(run, "merged", "gguf", out=tmp_path, certified=False)
    out = tmp_path / "findings.json"
    report(tmp_path / "work", out, lambda *args: look_transformers("merged", merged.path, *args))
    by_transformers = Findings.open(out)
    assert judged(by_transformers, thresholds(merged.format)) == ()
    file = gguf.path / "model.gguf"
    report(tmp_path / "work", out, lambda *args: look_llama_cpp(file, *args))
    by_llama_cpp = Findings.open(out)
    assert judged(by_llama_cpp, thresholds("f16")) == ()
    stored = load_file(Path(run.settings["model"]) / "model.safetensors")
    assert by_llama_cpp.weights == len(stored) <= by_transformers.weights


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    """Return the folder of a run whose base was held in 4 bits."""
    folder = tmp_path_factory.mktemp("quantised")
    return trained("qwen2", folder, bits=4)


def command(*arguments):
    words = [str(Path(sys.executable).parent / "strop"), "export", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@slow
def test_the_command_certifies_a_run_in_few_bits_and_the_report_says_so(quantised, tmp_path):
    done = command(quantised.path, "--to", "merged,gguf", "--quant", "q8_0", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    page = html.unescape(quantised.report.read_text(encoding="utf-8"))
    for name in ("merged", "gguf-q8_0"):
        certificate = Certificate.open(tmp_path / name)
        assert certificate.base == DEQUANTISED
        assert set(certificate.bases) == {DEQUANTISED, ORIGINAL}
        assert certificate.bases[DEQUANTISED].kl < certificate.bases[ORIGINAL].kl
        assert certificate.sentence in page
    assert page.count("✓ certified</span>") == 2


@slow
def test_an_export_that_fails_ends_in_exit_code_1_and_a_sentence(quantised, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(quantised.settings["model"], model)
    tensors = load_file(model / "model.safetensors")
    up, down = (f"model.layers.0.mlp.{name}_proj.weight" for name in ("up", "down"))
    tensors[up][0] *= 1e6  # not in float16's range; `down` takes it back
    tensors[down][:, 0] *= 1e-6
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    run = Run(tmp_path / "run")
    shutil.copytree(quantised.path, run.path)
    settings = {**run.settings, "model": str(model), "bits": 32, "dtype": "float32"}
    run.update(settings=settings, exports={}, base={})
    done = command(run.path, "--to", "merged", "--dtype", "float16", "--json")
    assert done.returncode == 1
    printed = json.loads(done.stdout)
    assert printed["certified"] is False
    sentence = f"merged float16 is not certified: {up} holds values that are no numbers"
    assert printed["exports"][0]["certificate"]["sentence"].startswith(sentence)
    page = html.unescape(run.report.read_text(encoding="utf-8"))
    assert "✗ failed</span>" in page
    assert f"<br>{sentence}" in page


@slow
def test_the_original_base_is_taken_where_it_is_nearer_and_certified_by_its_weights(
    quantised, tmp_path
):
    assets = quantised.assets()
    reference = record_reference(quantised, assets)
    named = bases(quantised.settings, assets)
    # with the names exchanged, the nearer base is the one called original
    weights = {
        name: TunedWeights(base, quantised.weights())
        for name, base in zip(named, reversed(named.values()), strict=True)
    }
    scaling = ChannelScaling(quantised.activation_stats(), assets.config)
    chosen = measured(reference, assets, weights, scaling, None)
    assert chosen.base == ORIGINAL
    assert reference.scaled
    for before, after in ((reference.sketches, chosen.sketches), (reference.scaled, chosen.scaled)):
        for name, sketch in before.items():
            torch.testing.assert_close(after[name].whole, sketch.whole, rtol=1e-4, atol=1e-4)


@slow
def test_a_run_on_a_quantised_folder_is_merged_into_plain_weights(quantised, tmp_path):
    folder = tmp_path / "quantised"
    model, tokenizer = load(quantised.settings["model"], bits=4)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    run = Run(tmp_path / "run")
    shutil.copytree(quantised.path, run.path)
    run.update(settings={**run.settings, "model": str(folder)}, base={})
    merged, gguf = export(run, "merged", "gguf", out=tmp_path)
    assert merged.certificate.passed, merged.certificate.faults
    assert gguf.certificate.passed, gguf.certificate.faults
    assert merged.certificate.bases == {}


@slow
def test_rows_of_a_quantised_base_are_those_of_the_whole_weight(quantised):
    model, _ = load(quantised.settings["model"], bits=4)
    (base, _) = bases(quantised.settings, quantised.assets()).values()
    for name, layer in model.named_modules():
        if isinstance(layer, QuantizedLinear):
            whole = layer.dense(torch.empty(layer.shape))
            assert torch.equal(base.rows(f"{name}.weight", 3, 9), whole[3:9])
            assert torch.equal(base.rows(f"{name}.weight", None, None), whole)


def findings(*flips, kl=1e-3):
    agreement = Agreement(
        tokens=100,
        kl=kl,
        kl_99=kl,
        top1=1 - len(flips) / 100,
        flips=list(flips),
        perplexity=1.0,
        trained_perplexity=1.0,
    )
    return Findings(agreement=agreement)


def test_flips_between_near_ties_pass_and_flips_where_the_model_is_sure_do_not():
    tie, sure = 0.9 * ROUNDED.gap, 1.1 * ROUNDED.gap
    assert judged(findings(*[tie] * 20), ROUNDED) == ()
    assert judged(findings(sure, sure), ROUNDED) == ()  # as rare as the normal law has them
    (fault,) = judged(findings(sure, sure, sure), ROUNDED)
    assert "3 of 100 tokens where the trained model is sure of its own" in fault


def test_answers_may_depart_clearly_as_rarely_as_tokens_flip_and_never_far():
    def with_departures(tokens, *departures):
        answers = findings()
        answers.answers, answers.answer_tokens, answers.departures = 4, tokens, list(departures)
        return answers

    tie, clear, far = (times * ROUNDED.gap for times in (0.9, 1.1, 2.1))
    assert judged(with_departures(8, tie, tie, tie, tie), ROUNDED) == ()
    assert judged(with_departures(60, clear), ROUNDED) == ()
    for tokens, departures in (
        (60, [clear, clear]),
        (20, [clear]),
        (128, [far]),
        (128, [math.inf]),
    ):
        (fault,) = judged(with_departures(tokens, *departures), ROUNDED)
        assert "depart where the trained model is sure of its own" in fault
    (fault,) = judged(with_departures(128, 1.1 * CLOSE.gap), CLOSE)
    assert fault.startswith("1 of 4 answers depart")


def test_every_token_that_an_answer_may_depart_by_is_considered():
    assert max(2 * thresholds(form).gap for form in ("nf4", "q4_0", "q2_k")) < FAR
    near = considered(torch.tensor([0.0, -FAR - 0.1, -1.0] + 100 * [-FAR + 0.1]))
    assert [*near] == ["0", "2", *map(str, range(3, 103))]


def test_the_gap_is_what_noise_of_the_allowed_divergence_turns_at_one_token_in_forty_four():
    torch.manual_seed(0)
    kl = 2e-3
    logits = torch.randn(20_000, 200)
    noisy = logits + (2 * kl) ** 0.5 * torch.randn_like(logits)
    p, q = logits.log_softmax(-1).double(), noisy.log_softmax(-1).double()
    assert float((p.exp() * (p - q)).sum(-1).mean()) == pytest.approx(kl, rel=0.05)
    moved = (noisy[:, 0] - noisy[:, 1]) - (logits[:, 0] - logits[:, 1])
    share = float((moved < within(kl).gap).double().mean())
    assert share == pytest.approx(SURE, abs=0.003)
