"""What is not certified answers nobody, unless asked for so; the engine is llama.cpp's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from strop.actions.chat import answer
from strop.core.digest import folder_digests
from strop.core.errors import DataError
from strop.exporting import export
from strop.exporting.certify.certificate import FILE, Certificate
from strop.serving.served import at_hand, find
from strop.training import Run
from tests.tiny.saved import trained

pytestmark = pytest.mark.slow
QUESTION = "The last word of north sea rain?"


@pytest.fixture(autouse=True)
def separate_cache(tmp_path_factory, monkeypatch):
    """Keep the base of a tiny model out of the user's cache."""
    monkeypatch.setenv("STROP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """Return a run with a certified export of each kind that answers chats."""
    run = trained("llama3", tmp_path_factory.mktemp("certified"))
    export(run, "gguf", "merged")
    return run


@pytest.fixture
def run(certified, tmp_path):
    shutil.copytree(certified.path, tmp_path / "run")
    return Run(tmp_path / "run")


def say_failed(folder):
    plain = json.loads((folder / FILE).read_text())
    plain |= {"passed": False, "faults": ["its rows are transposed"]}
    del plain["sha256"]  # what was changed by hand, and is meant
    (folder / FILE).write_text(json.dumps(plain))


def of_another_run(folder):
    run = Run(folder.parent.parent)
    config = run.adapter_folder / "adapter_config.json"
    made = config.stat().st_mtime  # before the export
    config.write_text(config.read_text() + " ")
    os.utime(config, (made, made))
    run.update(adapter=folder_digests(run.adapter_folder))


def one_byte(folder):
    file = next(folder.glob("model.*f*"))
    raw = bytearray(file.read_bytes())
    raw[-5] ^= 1
    file.write_bytes(raw)


SPOILT = {
    "failed": (say_failed, "is not certified: its rows are transposed"),
    "missing": (lambda f: (f / FILE).unlink(), "has no certificate.json"),
    "one bit": (one_byte, "was changed after it was certified"),
    "another run's": (of_another_run, "was made of other weights than those in"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_an_export_that_is_not_certified_is_served_only_with_the_flag(run, how):
    spoil, reason = SPOILT[how]
    folder = run.path / "export" / "gguf-f16"
    assert at_hand(str(run.path)).file == folder / "model.gguf"
    spoil(folder)
    for name in (str(run.path), str(folder / "model.gguf")):
        for use in (lambda name: find([name]), lambda name: answer(name, QUESTION, max_tokens=2)):
            with pytest.raises(DataError, match=rf"{reason}.*--uncertified"):
                use(name)
        assert find([name], uncertified=True)[0].file.name == "model.gguf"
    assert answer(str(run.path), QUESTION, max_tokens=8, uncertified=True)["answer"]


@pytest.mark.parametrize("how", ["failed", "missing", "one bit"])
def test_a_merged_folder_that_is_not_certified_is_not_talked_to(run, how):
    spoil, reason = SPOILT[how]
    folder = run.path / "export" / "merged"
    spoil(folder)
    with pytest.raises(DataError, match=rf"{reason}.*--uncertified"):
        answer(str(folder), QUESTION, max_tokens=2)
    assert "answer" in answer(str(folder), QUESTION, max_tokens=2, uncertified=True)


def test_the_commands_refuse_with_one_sentence_and_take_the_flag(run):
    export(run, "gguf", certified=False)
    assert not Certificate.open(run.path / "export" / "gguf-f16").passed
    strop = str(Path(sys.executable).parent / "strop")
    for words in (["chat", "--say", QUESTION], ["serve", "--port", "0"]):
        command = [strop, words[0], str(run.path), *words[1:], "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        error = json.loads(done.stdout)["error"]
        assert "it was not compared with the trained model; export it again" in error
    command = [strop, "chat", str(run.path), "--say", QUESTION, "--uncertified"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_run_without_an_export_gets_a_certified_one(run):
    shutil.rmtree(run.path / "export")
    (served,) = find([str(run.path)])
    assert Certificate.open(served.file.parent).passed


def test_a_damaged_file_of_the_base_beneath_an_adapter_is_built_again(run):
    export(run, "gguf", quant="adapter")
    served = at_hand(str(run.path))
    assert served.adapter is not None
    raw = served.file.read_bytes()
    served.file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert at_hand(str(run.path)) == served
    assert served.file.read_bytes() == raw
