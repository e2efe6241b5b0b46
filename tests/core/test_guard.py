"""What fails at a file is one sentence: its path, the fault, the remedy."""

import csv
import errno
import json
import os
import subprocess
import sys
import zlib

import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer

from strop.core import env
from strop.core.errors import ConfigError, DataError, MissingPackageError, UnsupportedError
from strop.core.files import read_cached, reading, write_cached, writing, written_whole

READERS = {
    "json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    "safetensors": load_file,
    "tokenizers": lambda path: Tokenizer.from_file(str(path)),
    "torch": lambda path: torch.load(path, weights_only=True),
    "yaml": lambda path: yaml.safe_load(path.read_text(encoding="utf-8"))["epochs"],
}
CONTENTS = {
    "absent": None,
    "empty": b"",
    "cut": b'{"epochs": [',
    "another kind": b"[1, 2]",
    "binary": bytes(range(128, 256)),
    "deep": b"[" * 200_000,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", CONTENTS)
def test_whatever_a_library_raises_names_the_file_and_the_hint(tmp_path, reader, content):
    path = tmp_path / "model.file"
    if CONTENTS[content] is not None:
        path.write_bytes(CONTENTS[content])
    if (reader, content) == ("json", "another kind"):
        return  # it is JSON
    with (
        pytest.raises(DataError, match=r"model\.file .*; make it again$"),
        reading(path, "make it again"),
    ):
        READERS[reader](path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ENAMETOOLONG])
def test_faults_of_the_system_have_their_own_remedies(tmp_path, number):
    with pytest.raises(DataError, match=r"cannot be read \(.*\); ") as caught, reading(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path / "weights"))
    assert str(tmp_path / "weights") in str(caught.value)
    assert "copy it again" not in str(caught.value)


def test_a_missing_package_is_no_damage_and_a_fault_of_ours_is_not_hidden(tmp_path):
    with pytest.raises(MissingPackageError, match="needs sentencepiece"), reading(tmp_path):
        raise ImportError("it needs sentencepiece")
    with pytest.raises(DataError, match=r"^as it was$"), reading(tmp_path):
        raise DataError("as it was")
    with pytest.raises(KeyError), writing(tmp_path / "file"):
        raise KeyError("of what computes the content")


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    Exception("No space left on device (os error 28)"),  # tokenizers
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    RuntimeError("basic_ios::clear: iostream error"),
]


@pytest.mark.parametrize("failure", FULL, ids=str)
def test_a_failed_write_names_file_reason_room_and_remedy(tmp_path, failure):
    path = tmp_path / "run" / "checkpoint-7"
    with pytest.raises(UnsupportedError, match=r"checkpoint-7 cannot be written: ") as caught:  # noqa: SIM117
        with writing(path):
            raise failure
    assert "are free there); make room" in str(caught.value)


def test_what_fails_elsewhere_is_no_fault_of_the_file_that_is_written(tmp_path):
    for other in (
        FileNotFoundError(errno.ENOENT, "no such file", "/usr/bin/g++-99"),
        RuntimeError("CUDA out of memory"),
        csv.Error("line contains NUL"),
        zlib.error("invalid header"),
    ):
        with pytest.raises(type(other)), written_whole(tmp_path / "file"):
            raise other
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_the_place_of_a_file_and_a_file_that_of_a_folder(tmp_path):
    path = tmp_path / "model"
    path.write_text("a file")
    with written_whole(path) as scratch:
        scratch.mkdir()
    assert path.is_dir()
    with written_whole(path) as scratch:
        scratch.write_text("a file")
    assert path.is_file()


def test_what_the_cache_holds_counts_only_unchanged(tmp_path):
    path = tmp_path / "plans" / "plan.json"
    write_cached(path, {"bytes": 17})
    assert read_cached(path) == {"bytes": 17}
    path.write_text(path.read_text().replace("17", "16"))
    assert read_cached(path) == {}
    (tmp_path / "file").write_text("")
    write_cached(tmp_path / "file" / "plan.json", {"bytes": 17})  # a cache that cannot be written
    assert read_cached(tmp_path / "file" / "plan.json") == {}


ON_A_SMALL_DISK = """
import sys, pathlib, torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from strop.core.files import written_whole
from strop.core.errors import UnsupportedError
folder = pathlib.Path(sys.argv[1])
big, words = torch.zeros(100_000), {f"w{i}": i for i in range(20_000)}
writers = {
    "safetensors": lambda path: save_file({"a": big}, path),
    "torch": lambda path: torch.save(big, path),
    "tokenizers": lambda path: Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(path)),
    "python": lambda path: path.write_bytes(bytes(400_000)),
}
for name, write in writers.items():
    try:
        with written_whole(folder / name) as scratch:
            write(scratch)
    except UnsupportedError as e:
        print(e)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of file sizes")
def test_every_writer_says_that_a_file_may_not_become_so_large(tmp_path):
    limited = ["bash", "-c", 'ulimit -f 64; exec "$@"', "-", sys.executable, "-c", ON_A_SMALL_DISK]
    done = subprocess.run([*limited, tmp_path], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    assert all("cannot be written: " in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_the_cache_asks_for_a_place(tmp_path, monkeypatch):
    for name in ("STROP_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987_654)
    with pytest.raises(ConfigError, match=r"id 987654\) has no home folder.*set STROP_CACHE"):
        env.cache_folder()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert env.cache_folder() == tmp_path / ".cache" / "strop"
