"""A comparison that cannot be made says which step failed, by what, and what was printed last."""

import dataclasses
import importlib.util
import io
import re
import signal
import urllib.error
from email.message import Message

import jinja2
import pytest
import torch

from strop.core.errors import MissingPackageError
from strop.core.system.processes import ending
from strop.exporting.certify import certify as certifying
from strop.exporting.certify.certificate import judged, thresholds
from strop.exporting.certify.findings import STEP, Findings, report
from strop.exporting.certify.reference import ReferenceOutputs
from strop.metrics.divergence import Answer, considered


@pytest.fixture
def work(tmp_path):
    """Return a folder with what a trained model says, which is nothing."""
    none = {key: [] for key in ("texts", "context_starts", "chats", "chat_ids", "chat_texts")}
    none |= {key: [] for key in ("answers", "prompts", "tokenizer_stress_texts", "ends")}
    ReferenceOutputs(
        source="nothing", config={}, gguf={}, trained="", begin=None, base_kind="F32",
        log_probs=torch.zeros(1, 2), sketches={}, scaled={}, **none,
    ).save(tmp_path / "work")  # fmt: skip
    return tmp_path / "work"


def test_answers_of_flat_distributions_come_back_as_they_were_saved(work, tmp_path):
    flat = considered(torch.linspace(0, -1, 60_000))  # every token is near
    sharp = considered(torch.tensor([0.0, -9.0, -1.0]))
    answers = [Answer([1, 2], True, [flat, sharp]), Answer([], False, [])]
    dataclasses.replace(ReferenceOutputs.open(work), answers=answers).save(tmp_path)
    first, second = ReferenceOutputs.open(tmp_path).answers
    assert (first.ids, first.ended, second) == ([1, 2], True, Answer([], False, []))
    assert [len(step) for step in first.steps] == [60_000, 2]
    assert dict(first.steps[1]) == dict(sharp) == {"0": sharp["0"], "2": sharp["2"]}
    assert first.steps[0]["59999"] == flat["59999"]
    assert first.gap([59_999]) == pytest.approx(flat["1"] - flat["59999"])
    assert Answer([0, 0], False, [sharp, sharp]).gap([0, 1]) == float("inf")


def http_error(text):
    body = io.BytesIO(text.encode())
    return urllib.error.HTTPError("http://x", 500, "Internal Server Error", Message(), body)


CAUSES = {
    "a missing key": ("comparing answers", KeyError("logprobs"), r"compared: comparing answers ended "
                      r"in KeyError: 'logprobs', raised by look in test_certifying.py"),
    "an assertion": ("comparing distributions", AssertionError("N must be divisible by block_n"),
                     r"compared: comparing distributions ended in AssertionError: N must be"),
    "no text": ("opening the model", MemoryError(),
                r"opened: opening the model ended in MemoryError: no text, raised by look"),
    "a template": ("comparing tokens", jinja2.TemplateError("roles must alternate"),
                   r"comparing tokens ended in TemplateError: roles must alternate"),
    "a server": ("comparing chats", http_error('{"error": "cannot parse the template"}'),
                 r"HTTPError: HTTP Error 500: .*cannot parse the template"),
    "a package": ("opening the model", ImportError("No module named 'bitsandbytes'"),
                  r"opening the model ended in ImportError: No module named 'bitsandbytes'"),
}  # fmt: skip


@pytest.mark.parametrize("name", CAUSES)
def test_an_error_is_a_fault_with_its_step_and_its_text(work, tmp_path, name):
    step, error, cause = CAUSES[name]

    def look(_, findings):
        findings.begin(step)
        raise error

    report(work, tmp_path / "findings.json", look)
    (fault,) = judged(Findings.open(tmp_path / "findings.json"), thresholds("f16"))
    assert re.search(cause, fault), fault


def test_a_missing_reference_is_a_fault_too(tmp_path):
    report(tmp_path, tmp_path / "findings.json", lambda *_: None)
    (fault,) = Findings.open(tmp_path / "findings.json").faults
    assert "reading what the trained model says ended in FileNotFoundError" in fault


def test_the_end_of_a_process_is_named():
    assert "SIGKILL" in ending(-signal.SIGKILL)
    assert "memory" in ending(-signal.SIGKILL)
    assert ending(-signal.SIGABRT) == "was ended by SIGABRT"
    assert ending(-99) == "was ended by signal 99"
    assert ending(3) == "ended with exit code 3"
    printed = (
        f"{STEP}opening the model\nloading\n{STEP}comparing weights\nGGML_ASSERT(a) failed\n\n"
    )
    assert certifying._last(printed) == ("comparing weights", "GGML_ASSERT(a) failed")
    assert certifying._last(b"") == ("starting", "nothing")


def test_a_comparison_that_takes_too_long_is_given_up_and_says_when(work, tmp_path, monkeypatch):
    monkeypatch.setattr(certifying, "SECONDS", 0)
    findings = certifying._findings(tmp_path, work, "merged", None)
    assert findings.faults[0].startswith(
        "comparing it took more than 0 minutes and was given up while"
    )


@pytest.mark.slow  # it starts a process that imports torch
def test_files_of_the_folder_one_stands_in_are_not_imported(work, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    for name in ("numpy", "tokenizers", "types_of_rows", "datasets"):
        (here / f"{name}.py").write_text("raise SystemExit('code of the data folder ran')")
    monkeypatch.chdir(here)
    (fault,) = certifying._findings(tmp_path / "none", work, "merged", None).faults
    assert "cannot be opened: opening the tokenizer ended in" in fault


def test_what_opens_an_export_is_looked_for_before_anything_is_written(monkeypatch):
    certifying.check_loaders(["adapter", "merged", "gguf", "ollama", "bnb"])
    there = importlib.util.find_spec
    absent = ("xllamacpp", "bitsandbytes")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in absent else there(name)
    )
    certifying.check_loaders(["adapter", "merged"])
    for target, package in (
        ("gguf", "xllamacpp"),
        ("ollama", "xllamacpp"),
        ("bnb", "bitsandbytes"),
    ):
        with pytest.raises(MissingPackageError, match=rf"--to {target} .* {package}.*--no-certify"):
            certifying.check_loaders([target])
