"""Random damage to the files of a model and to certificates: opened, or one sentence."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import strop
from strop.core.errors import StropError
from strop.exporting.certify.certificate import FILE, Certificate, not_compared


def truncate(file: Path, rng: random.Random) -> None:
    os.truncate(file, rng.randrange(max(1, file.stat().st_size)))


def flip(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes() or b" ")
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def replaced_by(content: bytes) -> Callable[[Path, random.Random], None]:
    return lambda file, rng: file.write_bytes(content) and None


def change_a_value(file: Path, rng: random.Random) -> None:
    try:
        plain = json.loads(file.read_text())
        plain[rng.choice(sorted(plain))] = rng.choice([5, "x", [], {}, None, -1])
        file.write_text(json.dumps(plain))
    except (ValueError, TypeError, IndexError, KeyError):  # no JSON object
        truncate(file, rng)


def a_folder_in_its_place(file: Path, rng: random.Random) -> None:
    file.unlink()
    file.mkdir()


DAMAGES = {
    "truncated": truncate,
    "empty": replaced_by(b""),
    "a list": replaced_by(b"[1, 2]"),
    "no text": replaced_by(bytes(range(256))),
    "a bit flipped": flip,
    "a value changed": change_a_value,
    "missing": lambda file, rng: file.unlink(),
    "a folder": a_folder_in_its_place,
}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STROP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def files_of(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def damaged(folder: Path, copy: Path, seed: int):
    """Yield a damage and its file, in copies of a folder, for each of its files."""
    rng = random.Random(seed)
    for name in files_of(folder):
        how = rng.choice(sorted(DAMAGES))
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        DAMAGES[how](copy / name, rng)
        yield how, copy / name


def outcome(work: Callable[[], object], where: Path) -> object:
    """Return what came out; None after a sentence that has the path. All else is raised."""
    try:
        return work()
    except StropError as e:
        text = str(e)
        assert str(where) in text, text
        assert "Traceback" not in text
        return None


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_model_folder_is_loaded_or_refused_by_name(tmp_path, tiny_model, seed):
    for _, _ in damaged(tiny_model, tmp_path / "model", seed):
        loaded = outcome(lambda: strop.load(tmp_path / "model", bits=16), tmp_path / "model")
        assert loaded is None or len(loaded) == 2


@pytest.mark.parametrize("how", sorted(DAMAGES))
def test_a_damaged_certificate_is_refused_by_name(tmp_path, how):
    not_compared("merged", "float32").save(tmp_path)
    whole = Certificate.open(tmp_path)
    DAMAGES[how](tmp_path / FILE, random.Random(1))
    assert outcome(lambda: Certificate.open(tmp_path), tmp_path / FILE) in (None, whole)
