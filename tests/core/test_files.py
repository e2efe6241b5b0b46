"""Files that are whole or absent, whatever happens to the process that writes them."""

import os
import signal
import stat
import subprocess
import sys

import pytest
from filelock import FileLock

from strop.core.errors import DataError
from strop.core.files import clear_leftovers, read_json, scratch_folder, written_whole

KILLED = """
import os, pathlib, signal, sys
from strop.core.files import written_whole
with written_whole(pathlib.Path(sys.argv[1])) as scratch:
    scratch.mkdir()
    (scratch / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


KILLED_AT_WORK = """
import os, pathlib, signal, sys
from strop.core.files import scratch_folder
with scratch_folder("export", sys.argv[1]) as scratch:
    (scratch / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def write(path, text):
    with written_whole(path) as scratch:
        scratch.mkdir()
        (scratch / "file").write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_cleared_and_what_is_others_stays(tmp_path):
    write(tmp_path / "model", "old")
    for others in (".model-mine", ".model-2024", "model-a"):
        (tmp_path / others).mkdir()
        (tmp_path / others / "notes").write_text("mine")
    before = names(tmp_path)
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "model"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == len(before) + 1
    assert (tmp_path / "model" / "file").read_text() == "old"
    write(tmp_path / "model", "new")
    assert names(tmp_path) == before
    assert (tmp_path / "model" / "file").read_text() == "new"


def test_what_a_process_left_that_died_before_it_locked_is_cleared(tmp_path):
    (tmp_path / ".model-x").mkdir()
    write(tmp_path / "model", "new")
    assert names(tmp_path) == ["model"]


def test_work_of_a_killed_process_is_cleared_by_the_next_and_that_of_others_stays(tmp_path):
    (tmp_path / "strop-export-mine").mkdir()
    (tmp_path / "strop-export-mine" / "notes").write_text("mine")
    subprocess.run([sys.executable, "-c", KILLED_AT_WORK, tmp_path], check=False)
    assert len(names(tmp_path)) == 2
    with scratch_folder("quantize", tmp_path):
        assert len(names(tmp_path)) == 3  # its purpose is another
    with scratch_folder("export", tmp_path) as scratch:
        assert names(tmp_path) == sorted([scratch.parent.name, "strop-export-mine"])
        with scratch_folder("export", tmp_path) as other:
            assert len(names(tmp_path)) == 3  # both are at work
            assert names(other) == names(scratch) == []
    assert names(tmp_path) == ["strop-export-mine"]


def test_a_folder_of_a_writer_at_work_is_not_cleared(tmp_path):
    with written_whole(tmp_path / "model") as scratch:
        clear_leftovers(tmp_path / "model")
        scratch.mkdir()
    assert names(tmp_path) == ["model"]


def test_the_old_goes_back_where_a_process_died_between_its_two_renames(tmp_path):
    write(tmp_path / "model", "old")
    scratch = tmp_path / ".model-x"
    scratch.mkdir()
    with FileLock(scratch / "writer.lock"):
        (tmp_path / "model").replace(scratch / "replaced")
    (scratch / "writer.lock").touch()
    clear_leftovers(tmp_path / "model")
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "file").read_text() == "old"


def test_an_error_leaves_the_old(tmp_path):
    write(tmp_path / "model", "old")
    with pytest.raises(TypeError):
        write(tmp_path / "model", 5)
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "file").read_text() == "old"


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_others_may_read_what_the_umask_lets_them(tmp_path, umask):
    before = os.umask(umask)
    try:
        with written_whole(tmp_path / "file") as scratch:
            scratch.touch(mode=0o600)
            scratch.write_text("text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize(
    ("content", "fault"),
    [("{", "is not valid JSON"), ("[]", "holds no JSON object"), (None, "cannot be read")],
)
def test_a_file_that_holds_no_object_is_named_with_the_hint(tmp_path, content, fault):
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DataError, match=rf"config\.json {fault}.*; make it again$"):
        read_json(file, hint="make it again")
    file.write_text('{"a": [1]}')
    assert read_json(file) == {"a": [1]}
