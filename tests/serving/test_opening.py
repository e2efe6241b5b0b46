"""A file that would end the process inside llama.cpp ends a child, and is named."""

import sys

import pytest

from strop.core.errors import DataError
from strop.serving.engine import Engine

pytest.importorskip("xllamacpp")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))


def test_a_file_at_which_the_child_dies_is_named_with_the_signal(tmp_path, monkeypatch):
    file, child = tmp_path / "model.gguf", tmp_path / "child"
    file.write_bytes(b"GGUF")
    child.write_text("#!/bin/sh\nkill -ABRT $$\n")  # as an assertion of llama.cpp does
    child.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(child))
    with pytest.raises(DataError, match=r"model\.gguf cannot be opened: .* was ended by SIGABRT"):
        Engine(file)
    assert not (tmp_path / "cache" / "opened").exists()
