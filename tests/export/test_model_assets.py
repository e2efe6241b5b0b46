"""What surrounds the weights is read from the run, and is what transformers makes of the model."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer

from strop.core.errors import MissingPackageError
from strop.data.encoding.chat import chat_ids
from strop.exporting import export
from strop.exporting.certify.certificate import FILE
from strop.exporting.certify.record import TOKENIZER_STRESS_TEXTS
from strop.exporting.gguf.architectures import metadata
from strop.exporting.gguf.vocabulary import vocabulary
from strop.exporting.ollama.modelfile import Modelfile
from strop.models.assets import RESOLVED, load_assets
from strop.models.packaged import PACKAGED, find_parts
from strop.training import Run
from tests.tiny.saved import FAMILIES, save_model, trained

TARGETS = ("adapter", "merged", "gguf", "ollama")
HEAVY = """
import sys
from strop.exporting import export
export(sys.argv[1], *sys.argv[3:], quant="f16,q8_0", out=sys.argv[2], certified=False)
for name in sys.modules:
    parts = name.split(".")
    classes = parts[:2] == ["transformers", "models"] and parts[-1].startswith("configuration_")
    if classes or parts[:2] == ["torch", "_dynamo"] or parts[:2] == ["transformers", "quantizers"]:
        print(name)
"""
"""Exports a run, then names the modules that it should not have needed."""


def contents(folder):
    """Return the bytes of every file below a folder but model cards, which name the run."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "README.md"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_assets_are_what_transformers_makes_of_the_model(family, tmp_path):
    model = save_model(family, tmp_path / "model")
    live = load_assets(model)
    live.write(tmp_path / "model_assets")
    saved = load_assets(model, tmp_path / "model_assets")
    assert type(live.config) is not SimpleNamespace
    assert type(saved.config) is SimpleNamespace
    assert saved.folder == live.folder
    assert saved.ends == live.ends
    assert saved.config.dtype == live.config.dtype
    assert metadata(saved.config) == metadata(live.config)
    vocabularies = [vocabulary(assets, assets.config.vocab_size) for assets in (live, saved)]
    assert vocabularies[0] == vocabularies[1]
    assert Modelfile.of(saved, "model") == Modelfile.of(live, "model")
    reference, from_saved = (
        {name: value for name, value in assets.stated.items() if name != "dtype"}
        for assets in (live, saved)
    )
    assert reference == from_saved
    for assets, name in ((live, "live"), (saved, "kept")):
        (tmp_path / name).mkdir()
        assets.save(tmp_path / name, torch.bfloat16)
    assert contents(tmp_path / "kept") == contents(tmp_path / "live")
    assert json.loads((tmp_path / "kept" / "config.json").read_text())["dtype"] == "bfloat16"


def check_same_tokens(live, saved):
    for text in TOKENIZER_STRESS_TEXTS:
        for special in (True, False):
            ids = [t(text, add_special_tokens=special)["input_ids"] for t in (live, saved)]
            assert ids[0] == ids[1]
    question = [{"role": "user", "content": "Why?"}]
    assert chat_ids(saved, question) == chat_ids(live, question)
    assert saved.special_tokens_map == live.special_tokens_map
    assert saved.all_special_ids == live.all_special_ids
    assert saved.get_vocab() == live.get_vocab()
    assert saved.backend_tokenizer.to_str() == live.backend_tokenizer.to_str()


def test_the_saved_tokenizer_cuts_texts_as_the_model_does(tmp_path):
    model = save_model("qwen2", tmp_path / "model")
    file = model / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "tokenizer_class": "Qwen2Tokenizer"}))
    live = load_assets(model)
    assert type(live.tokenizer).__name__ == "Qwen2Tokenizer"
    live.write(tmp_path / "model_assets")
    check_same_tokens(live.tokenizer, load_assets(model, tmp_path / "model_assets").tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["smollm2-135m-instruct", "gemma-3-270m", "qwen2.5-coder-0.5b-instruct"]
)
def test_a_packaged_model_has_the_same_tokens_from_its_saved_assets(name, tmp_path):
    try:
        find_parts(name, PACKAGED[name])
    except MissingPackageError as e:
        pytest.skip(str(e))
    live = load_assets(name)
    live.write(tmp_path / "model_assets")
    saved = load_assets(name, tmp_path / "model_assets")
    check_same_tokens(live.tokenizer, saved.tokenizer)
    assert vocabulary(saved, saved.config.vocab_size) == vocabulary(live, live.config.vocab_size)
    assert Modelfile.of(saved, "model") == Modelfile.of(live, "model")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained("llama3", tmp_path_factory.mktemp("kept"), epochs=1)


@pytest.fixture(scope="module")
def bare(run, tmp_path_factory):
    """Return the same run as one of long ago, which kept no assets."""
    copy = Run(tmp_path_factory.mktemp("bare") / "run")
    shutil.copytree(run.path, copy.path)
    shutil.rmtree(copy.assets_folder)
    return copy


def test_a_run_saves_its_assets_as_a_merged_model_has_them(run, tmp_path):
    (merged,) = export(run, "merged", out=tmp_path, certified=False)
    surroundings = contents(merged.path).keys() - {FILE}
    beside = {name for name in surroundings if not name.endswith(".safetensors")}
    saved = contents(run.assets_folder)
    assert saved.keys() == beside | {RESOLVED}
    assert all(saved[name] == contents(merged.path)[name] for name in beside)
    assert AutoTokenizer.from_pretrained(run.assets_folder).chat_template


def test_an_export_from_saved_assets_is_that_from_the_model_byte_for_byte(run, bare, tmp_path):
    assert run.assets().saved_in == run.assets_folder
    assert bare.assets().saved_in is None
    for of, name in ((run, "kept"), (bare, "live")):
        forms = "f16,q8_0,adapter"
        export(of, *TARGETS, quant=forms, out=tmp_path / name, certified=False)
    saved, live = contents(tmp_path / "kept"), contents(tmp_path / "live")
    assert saved.keys() == live.keys()
    assert [name for name in live if live[name] != saved[name]] == []


def heavy(run, out):
    words = [sys.executable, "-c", HEAVY, str(run.path), str(out), *TARGETS]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_writing_imports_no_configuration_class_and_no_compiler(run, bare, tmp_path):
    assert heavy(run, tmp_path / "kept") == []
    needed = heavy(bare, tmp_path / "live")
    assert "torch._dynamo" in needed
    assert "transformers.models.llama.configuration_llama" in needed


def test_a_run_in_few_bits_is_written_without_building_its_model(tmp_path):
    assert heavy(trained("llama3", tmp_path, epochs=1, bits=4), tmp_path / "out") == []
