"""An exported folder is used only if its certificate passed and its files are those of it."""

import json
import shutil

import pytest

from strop.core.errors import DataError
from strop.exporting.certify.certificate import FILE, Certificate, not_compared
from strop.exporting.certify.certified import check, is_export, obstacle
from tests.export.test_pushing import folder, save_certificate

__all__ = ["folder"]


def change(folder, **values):
    file = folder / FILE
    plain = {**json.loads(file.read_text()), **values}
    del plain["sha256"]  # as somebody does who means it
    file.write_text(json.dumps(plain))


SPOILT = {
    "missing": (lambda f: (f / FILE).unlink(), r"has no certificate.json"),
    "empty": (lambda f: (f / FILE).write_text(""), r"certificate.json is not valid JSON"),
    "cut": (lambda f: (f / FILE).write_bytes((f / FILE).read_bytes()[:-40]), r"is not valid JSON"),
    "a list": (lambda f: (f / FILE).write_text("[]"), r"holds no JSON object"),
    "of other fields": (lambda f: (f / FILE).write_text('{"passed": true}'), r"is damaged"),
    "a digit changed": (
        lambda f: (f / FILE).write_text((f / FILE).read_text().replace("float32", "float16")),
        r"is damaged, or was changed by hand",
    ),
    "failed": (
        lambda f: save_certificate(f, ("its rows are transposed",)),
        r"merged float32 is not certified: its rows are transposed",
    ),
    "a verdict changed by hand": (
        lambda f: (save_certificate(f, ("it is transposed",)), change(f, passed=True)),
        r"says passed True beside 1 faults",
    ),
    "a failure changed by hand": (lambda f: change(f, passed=False), r"says passed False beside 0"),
    "not compared": (
        lambda f: not_compared("merged", "float32").save(f),
        r"it was not compared with the trained model",
    ),
    "other weights": (
        lambda f: (f / "model.safetensors").write_bytes(b"weightz"),
        r"model.safetensors was changed after it was certified",
    ),
    "other settings": (
        lambda f: [(f / name).write_text("{} ") for name in ("config.json", "model.safetensors")],
        r"config.json was changed after it was certified \(2 such files\)",
    ),
    "a lost file": (lambda f: (f / "config.json").unlink(), r"config.json was changed"),
    "another template": (
        lambda f: (f / "chat_template.jinja").write_text(""),
        r"chat_template.jinja was added after it was certified",
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_certificate_that_does_not_hold_is_an_obstacle_with_its_reason(folder, how):
    spoil, reason = SPOILT[how]
    spoil(folder)
    with pytest.raises(
        DataError, match=rf"{reason}.*; export it again .* or take .* --uncertified"
    ):
        check(folder)


def test_a_certified_folder_has_no_obstacle_wherever_it_is_moved(folder, tmp_path):
    (folder / "README.md").write_text("about it")  # no loader reads it
    assert obstacle(folder) is None
    moved = shutil.move(folder, tmp_path / "moved")
    assert obstacle(moved) is None
    assert is_export(moved)


def test_an_adapter_is_certified_over_one_file_of_its_base(folder, tmp_path):
    base = tmp_path / "base.gguf"
    base.write_bytes(b"base")
    assert str(base) in obstacle(folder, base)


def test_a_folder_of_a_model_is_no_export_but_one_in_a_run_is(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    assert not is_export(model)
    export = tmp_path / "run" / "export" / "merged"
    export.mkdir(parents=True)
    assert not is_export(export)


def test_a_verdict_says_within_which_limit_it_agrees(folder):
    sentence = Certificate.open(folder).sentence
    assert sentence.startswith(
        "merged float32 agrees with the trained model within the limit for its format "
        "(KL 1.0e+00 ≤ 0.0001 nats per token)"
    )
